"""``studies.json``: everything that a run of studies showed, for machines. Torch-free.

::

    StudyData (trained cells) -> verdicts, scores, curves, cost, items -> StudyResult -> Results -> studies.json, page, lessons
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from mm1.manifests import Digest, Record
from mm1.studies.analyses import analyse
from mm1.studies.cells import StudyData
from mm1.studies.config import Paper, Score
from mm1.studies.costs import Cost, level_cost
from mm1.studies.curves import Curve, LevelScore, ShotsPanel, level_score, loss_curves, shots_panels
from mm1.studies.differences import DifferingItem, differing_items
from mm1.studies.run_records import Measured
from mm1.studies.section import Section
from mm1.studies.verdict import Verdict, corrected_for_run, judge


class ScoreTable(Record):
    """A score of all levels."""

    name: str
    score: Score
    levels: dict[str, LevelScore | None]
    """Level -> score; None: no cell of the level has it."""


class StudyResult(Record):
    """What the run showed about a factor."""

    name: str
    """Name of the file: ``studies/<name>.yaml``."""
    title: str
    paper: Paper
    factor: str
    analysis: str
    base: str
    levels: dict[str, dict[str, str]]
    """Level -> its settings."""
    settings: dict[str, str]
    seeds: tuple[int, ...]
    same: str
    """Budget that the levels have in common: steps, tokens or flops."""
    limits: str
    scores: tuple[ScoreTable, ...]
    verdicts: tuple[Verdict, ...]
    shots: tuple[ShotsPanel, ...]
    curves: dict[str, dict[str, Curve]]
    """Source -> level -> loss by step of the last pre-training."""
    costs: dict[str, Cost]
    """Level -> cost per cell."""
    items: tuple[DifferingItem, ...]
    """Some items that levels answered differently."""
    failed: tuple[str, ...] = ()
    """Cells of the study without a result."""
    problems: tuple[str, ...] = ()
    section: dict[str, Any] = Field({})
    """Results of the analysis, if it is not ``levels``."""


class Results(Record):
    """The content of ``studies.json``."""

    schema_version: Literal[1] = 1
    plan: Digest
    """The StudyPlan, with claims and smallest effects of interest from before the run."""
    studies: tuple[StudyResult, ...]
    num_cells: int
    failed: dict[str, str] = Field({})
    """Cell without a result -> reason; empty if it is not known."""

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, in the order of the studies."""
        return [verdict for study in self.studies for verdict in study.verdicts]

    @property
    def counts(self) -> dict[str, int]:
        """Outcome -> number of claims."""
        return dict(Counter(verdict.outcome for verdict in self.verdicts))

    @property
    def num_tested(self) -> int:
        """Number of claims that were tested."""
        return sum(verdict.p_value is not None for verdict in self.verdicts)

    def json_text(self) -> str:
        """Return the text of ``studies.json``: fields in the order of the schema, levels in the order of the study's file."""
        return self.model_dump_json(indent=1) + "\n"


@dataclass(frozen=True, kw_only=True)
class Computed:
    """Results, with the sections of the analyses for the page."""

    results: Results
    sections: dict[str, Section]
    """Study -> section."""


def compute(
    studies: Sequence[StudyData], plan: Digest, measured: Mapping[Digest, Measured], num_cells: int, failed: Mapping[str, str]
) -> Computed:
    """Compute the results of a run.

    Args:
        studies: the studies with their trained cells.
        plan: digest of the plan.
        measured: digest of a checkpoint -> what its training took.
        num_cells: cells of the plan.
        failed: name of a cell without a result -> reason.
    """
    sections = {data.name: section for data in studies if (section := analyse(data))}
    judged = corrected_for_run([[*judge(data), *_of_section(sections.get(data.name))] for data in studies])
    results = [
        _result(data, verdicts, measured, sections.get(data.name)) for data, verdicts in zip(studies, judged, strict=True)
    ]
    return Computed(
        results=Results(plan=plan, studies=tuple(results), num_cells=num_cells, failed=dict(sorted(failed.items()))),
        sections=sections,
    )


def _of_section(section: Section | None) -> tuple[Verdict, ...]:
    return section.verdicts if section else ()


def _result(
    data: StudyData, verdicts: tuple[Verdict, ...], measured: Mapping[Digest, Measured], section: Section | None
) -> StudyResult:
    study = data.study
    scores = [
        ScoreTable(name=name, score=score, levels={level: level_score(data, level, score) for level in study.levels})
        for name, score in study.scores.items()
    ]
    costs = {level: cost for level in study.levels if (cost := level_cost(data, level, measured))}
    return StudyResult(
        name=data.name,
        title=study.title,
        paper=study.paper,
        factor=study.factor,
        analysis=study.analysis,
        base=study.base,
        levels=study.levels,
        settings=study.settings,
        seeds=study.seeds,
        same=study.budget.same,
        limits=study.limits,
        scores=tuple(scores),
        verdicts=verdicts,
        shots=tuple(shots_panels(data)),
        curves=loss_curves(data),
        costs=costs,
        items=tuple(differing_items(data)),
        failed=tuple(sorted(set(data.missing.values()))),
        problems=tuple(dict.fromkeys(data.problems)),
        section=section.results if section else {},
    )
