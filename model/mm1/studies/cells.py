"""Values of trained cells, read from the store: answers item by item, losses, and the figures of the training. Torch-free."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mm1.data.source_names import names_of
from mm1.evals.samples import read_samples
from mm1.evals.tasks.names import parse_name
from mm1.lineage.text import count
from mm1.manifests import Cell, Checkpoint, Digest, EvalReport, Score, StudyPlan, load, load_digest, split_uri
from mm1.store.open import find_store
from mm1.studies.config import TERM, Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm1.store.base import Store

ROUND = ("task", "shots", "control")
COLUMNS = (*ROUND, "split", "draw", "item", "cluster", "values")
EVALUATE = "evaluate"
VALIDATION = "validation/"
"""Start of the columns of a history with losses of held-out samples."""
BASES = ("text", "imported")
"""Stages of checkpoints that all cells start from; later ones belong to a cell."""


class MissingValue(Exception):
    """A cell has no such value; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """A value of a cell, item by item if it has items."""

    values: NDArray[np.float64]
    """(N,)."""
    items: tuple[str, ...] = ()
    """Item and draw of demonstrations of each value, sorted; empty: a single value without items."""
    clusters: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedCell:
    """A cell that was trained, and evaluated if it has an evaluation."""

    cell: Cell
    store: Store
    """Store of the checkpoint."""
    digest: Digest
    """Digest of the checkpoint."""
    checkpoint: Checkpoint
    report_digest: Digest = ""
    """Digest of the evaluation; empty if the cell has none."""
    report: EvalReport | None = None
    reports: Store | None = None
    """Store of the evaluation."""
    _read: dict[str, Values] = field(default_factory=dict, compare=False)

    def values(self, term: str) -> Values:
        """Return a value (:data:`mm1.studies.config.TERM`).

        Raises:
            MissingValue: the evaluation or the history does not have it, or it is not finite.
        """
        if term not in self._read:
            values = self._values(term)
            if (wrong := values.values[~np.isfinite(values.values)]).size:
                raise MissingValue(f"{term} is {wrong[0]} for {count(wrong.size, 'item', len(values.values))}")
            self._read[term] = values
        return self._read[term]

    def _values(self, term: str) -> Values:
        match = TERM.match(term)
        assert match is not None  # checked by Score
        if source := match["source"]:
            return self._loss(source)
        task, shots, metric, control = match["task"], int(match["shots"]), match["metric"], match["control"] or "none"
        return self._by_item(task, shots, metric, control) or self._score(task, shots, metric, control)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores of the evaluation; none if there is none."""
        return self.report.scores if self.report else ()

    @cached_property
    def answers(self) -> pa.Table | None:
        """The answers of the evaluation without texts; None if the report has none."""
        table = self.all_answers()
        return None if table is None else table.select(COLUMNS)

    def all_answers(self) -> pa.Table | None:
        """Read the answers with prompts and texts, which take ten times the memory."""
        if self.report is None or self.report.samples is None or self.reports is None:
            return None
        return read_samples(self.reports.verified_path(self.report.samples))

    @cached_property
    def trainings(self) -> tuple[tuple[Digest, Checkpoint], ...]:
        """The checkpoints of this cell alone, the last training first, by digest."""
        return tuple(self._trainings())

    def _trainings(self) -> Iterator[tuple[Digest, Checkpoint]]:
        digest: Digest | None = self.digest
        checkpoint: Checkpoint | None = self.checkpoint
        while checkpoint is not None and digest is not None:
            if checkpoint.stage in BASES and digest != self.digest:
                return
            yield digest, checkpoint
            digest, checkpoint = self._parent(checkpoint)

    def _parent(self, checkpoint: Checkpoint) -> tuple[Digest | None, Checkpoint | None]:
        for digest in checkpoint.parents:
            parent = load_digest(self.store, digest)
            if isinstance(parent, Checkpoint):
                return digest, parent
        return None, None

    @cached_property
    def history(self) -> dict[str, NDArray[np.float64]]:
        """Columns of the history of the last pre-training; without one, of the only training."""
        trainings = [checkpoint for _, checkpoint in self.trainings]
        checkpoint = next((item for item in trainings if item.stage == "pretrain"), trainings[0])
        if checkpoint.history is None:
            return {}
        table = pq.read_table(io.BytesIO(self.store.get_bytes(checkpoint.history)))
        return {name: np.asarray(table[name].cast(pa.float64()).to_numpy(), float) for name in table.column_names}

    def _loss(self, source: str) -> Values:
        columns = [name.removeprefix(VALIDATION) for name in self.history if name.startswith(VALIDATION)]
        losses = [self.history[f"{VALIDATION}{name}"] for name in names_of(source, columns)]
        last = [column[np.isfinite(column)][-1] for column in losses if np.isfinite(column).any()]
        if not last:
            raise MissingValue(f"no validation loss of {source}")
        return Values(values=np.array([np.mean(last)]))

    def _by_item(self, task: str, shots: int, metric: str, control: str) -> Values | None:
        if self.answers is None:
            return None
        table = rows_of(self.answers, task, shots, control)
        values = pc.map_lookup(table["values"], metric, "first")
        if not len(values) or values.null_count:
            return None
        items = [f"{item} {draw}" for item, draw in zip(table["item"].to_pylist(), table["draw"].to_pylist(), strict=True)]
        if len(set(items)) != len(items):
            raise MissingValue(f"several answers to an item of {task} at {shots} shots: evaluate again")
        order = sorted(range(len(items)), key=items.__getitem__)
        clusters = table["cluster"].to_pylist()
        return Values(
            values=np.asarray(values.to_numpy(), float)[order],
            items=tuple(items[index] for index in order),
            clusters=tuple(str(clusters[index]) for index in order),
        )

    def _score(self, task: str, shots: int, metric: str, control: str) -> Values:
        """Return a score that has no value per item, such as that of a whole corpus."""
        name = parse_name(task)
        for score in self.scores:
            is_of_task = score.task == name.base and name.split in (None, score.split)
            if is_of_task and (score.shots, score.metric, score.control) == (shots, metric, control):
                return Values(values=np.array([score.value]))
        label = "" if control == "none" else f", {control}"
        raise MissingValue(f"no {metric} of {task} at {shots} shots{label}")


def rows_of(table: pa.Table, task: str, shots: int, control: str) -> pa.Table:
    """Select the rows of a round; the name of the task may have a split (``vqav2:testdev``)."""
    name = parse_name(task)
    for column, value in (*zip(ROUND, (name.base, shots, control), strict=True), ("split", name.split)):
        if value is not None:
            table = table.filter(pc.equal(table[column], value))
    return table


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """A study with its trained cells."""

    name: str
    study: Study
    plan: Digest
    cells: dict[tuple[str, int], TrainedCell]
    """Level, seed -> cell."""
    missing: dict[tuple[str, int], str]
    """Level, seed -> name of a cell that failed, or a reason."""
    problems: list[str] = field(default_factory=list)

    def of_level(self, level: str) -> list[TrainedCell]:
        """Return the trained cells of a level, in the order of the seeds."""
        return [self.cells[level, seed] for seed in self.seeds_of(level)]

    def seeds_of(self, level: str) -> list[int]:
        """Return the seeds with a trained cell of a level."""
        return [seed for seed in self.study.seeds if (level, seed) in self.cells]


def read_cells(plan: StudyPlan, trained: Sequence[str], reports: Sequence[str]) -> dict[str, TrainedCell]:
    """Load the trained cells of a plan, by name.

    Args:
        plan: the plan.
        trained: addresses of the cells' last Checkpoints, in the order of the plan; empty: the cell failed.
        reports: addresses of their EvalReports; empty also for a cell without an evaluation.

    Raises:
        ValueError: other numbers of addresses than cells.
        DataError: a manifest is missing or damaged.
    """
    for name, addresses in (("trained", trained), ("reports", reports)):
        if len(addresses) != len(plan.cells):
            raise ValueError(f"{name}: expected {len(plan.cells)} addresses, one for each cell, got {len(addresses)}")
    return {
        cell.name: _trained(cell, checkpoint, report)
        for cell, checkpoint, report in zip(plan.cells, trained, reports, strict=True)
        if checkpoint and (report or all(run.stage != EVALUATE for run in cell.stages))
    }


def _trained(cell: Cell, checkpoint: str, report: str) -> TrainedCell:
    address, digest = split_uri(checkpoint)
    store = find_store(address)
    trained = TrainedCell(cell=cell, store=store, digest=digest, checkpoint=load(checkpoint, Checkpoint, store))
    if not report:
        return trained
    address, digest = split_uri(report)
    reports = find_store(address)
    return replace(trained, report_digest=digest, report=load(report, EvalReport, reports), reports=reports)


def study_data(plan: StudyPlan, digest: Digest, cells: dict[str, TrainedCell]) -> list[StudyData]:
    """Arrange trained cells by study, in the order of the plan."""
    return [_study_data(plan, digest, number, cells) for number in range(len(plan.studies))]


def _study_data(plan: StudyPlan, digest: Digest, number: int, cells: dict[str, TrainedCell]) -> StudyData:
    planned = plan.studies[number]
    used = tuple(use.level for cell in plan.cells for use in cell.uses if use.study == planned.name)
    study = _in_order(Study.model_validate(planned.content), (*planned.levels, *used))
    names = {(use.level, cell.seed): cell.name for cell in plan.cells for use in cell.uses if use.study == planned.name}
    keys = [(level, seed) for level in study.levels for seed in study.seeds]
    return StudyData(
        name=planned.name,
        study=study,
        plan=digest,
        cells={key: cells[names[key]] for key in keys if names.get(key) in cells},
        missing={key: names.get(key, "not in the plan") for key in keys if names.get(key) not in cells},
    )


def _in_order(study: Study, levels: tuple[str, ...]) -> Study:
    """Order the levels, which the plan's JSON sorts, as in the file; without a record of that, by their first cells."""
    ordered = {level: study.levels[level] for level in (*levels, *study.levels) if level in study.levels}
    return study.model_copy(update={"levels": ordered})
