"""Results of runs with their provenance: read from a store, joined, kept in docs/lessons.json. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from mm1.config.resolve import explain
from mm1.errors import ConfigurationError, DataError
from mm1.lineage.records import TaskRecord, read_run
from mm1.manifests import Record, StudyReport, load, split_uri
from mm1.store.base import Store
from mm1.store.open import find_store
from mm1.studies.results import Results, StudyResult
from mm1.studies.run_records import records_by_digest

STEP = "study_report"


class Provenance(Record):
    """Origin of results, by the run record of study_report."""

    run: str
    date: datetime | None = None
    """End of the computation."""
    processor: str = ""
    cores: int = 0
    devices: tuple[str, ...] = ()
    """Processors or GPUs of the trainings."""
    commit: str = ""
    """``git describe`` of the code; empty if it was not a checkout."""


class RunLessons(Record):
    """Verdicts and scores of a run, without curves and items."""

    provenance: Provenance
    results: Results


class Lessons(Record):
    """The content of docs/lessons.json."""

    runs: tuple[RunLessons, ...]
    """No study is in two of them."""

    @property
    def studies(self) -> tuple[StudyResult, ...]:
        """Studies of all runs."""
        return tuple(study for run in self.runs for study in run.results.studies)

    @property
    def failed(self) -> dict[str, str]:
        """Cells without a result -> reason; empty if it is not known."""
        return {cell: reason for run in self.runs for cell, reason in run.results.failed.items()}

    def json_text(self) -> str:
        """Return the text of docs/lessons.json."""
        return self.model_dump_json(indent=1) + "\n"


def read_lessons(path: Path) -> Lessons:
    """Read docs/lessons.json.

    Raises:
        DataError: it is damaged, or of another version.
    """
    try:
        return Lessons.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}: not lessons, write them with `mm1 lessons RUN --write FOLDER`: {explain(error)[:200]}"
        ) from None


def read_studies(path: Path) -> tuple[StudyResult, ...]:
    """Read the results of the studies in a ``studies.json`` or a ``lessons.json``.

    Raises:
        ConfigurationError: there is no such file.
        DataError: it is neither of them.
    """
    try:
        tree = json.loads(path.read_bytes())
        return (Lessons if "runs" in tree else Results).model_validate(tree).studies
    except FileNotFoundError:
        raise ConfigurationError(f"no such file: {path}; expected studies.json of a run, or lessons.json") from None
    except (ValueError, TypeError) as error:  # a ValidationError is a ValueError
        problem = explain(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path}: expected studies.json of a run, or lessons.json: {problem[:200]}") from None


def joined(parts: Sequence[Lessons]) -> Lessons:
    """Join lessons; a study of several runs is taken from the last one."""
    runs: list[RunLessons] = []
    taken: set[str] = set()
    for run in reversed([run for part in parts for run in part.runs]):
        studies = tuple(study for study in run.results.studies if study.name not in taken)
        taken |= {study.name for study in studies}
        cells = {cell for study in studies for cell in study.failed}
        failed = {cell: reason for cell, reason in run.results.failed.items() if cell in cells}
        if studies:
            results = run.results.model_copy(update={"studies": studies, "failed": failed})
            runs.insert(0, run.model_copy(update={"results": results}))
    return Lessons(runs=tuple(runs))


def lessons_of_run(store: Store, run: str) -> Lessons:
    """Read the results of a run.

    Args:
        store: the store with its records.
        run: name of the run.

    Raises:
        ConfigurationError: there is no such run, or it has no results of studies.
        DataError: the results are missing or damaged.
    """
    tasks = read_run(store, run).tasks.values()
    addresses = [record.manifest for record in tasks if record.step == STEP and record.state == "done" and record.manifest]
    if not addresses:
        raise ConfigurationError(f"run {run} has no finished {STEP}; see its tasks with `mm1 runs {run}`, or run a study")
    report = load(addresses[-1], StudyReport)
    data = find_store(split_uri(addresses[-1])[0]).get_bytes(report.results)
    record = records_by_digest([store], [split_uri(addresses[-1])[1]])[split_uri(addresses[-1])[1]]
    return lessons(Results.model_validate_json(data), record)


def lessons(results: Results, record: TaskRecord) -> Lessons:
    """Combine results with their provenance.

    Args:
        results: the results.
        record: run record of the study_report that computed them.
    """
    devices = [cost.device for study in results.studies for cost in study.costs.values() if cost.device]
    provenance = Provenance(
        run=record.run,
        date=record.ended,
        processor=str(record.host.get("processor") or ""),
        cores=int(record.host.get("cores") or 0),
        devices=tuple(dict.fromkeys(devices)),
        commit=str(record.facts.get("commit") or ""),
    )
    studies = tuple(study.model_copy(update={"curves": {}, "items": (), "shots": ()}) for study in results.studies)
    return Lessons(runs=(RunLessons(provenance=provenance, results=results.model_copy(update={"studies": studies})),))
