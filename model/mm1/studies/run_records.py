"""Run records of the trainings and evaluations of cells: what they took, on which machine, with which inputs. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mm1.errors import DataError
from mm1.lineage.records import TaskRecord, read_record, read_run
from mm1.manifests import MANIFEST_NAME, Digest
from mm1.store.base import Store
from mm1.studies.cells import TrainedCell

CELL_STEPS = ("study_train", "study_evaluate")
"""Steps that run the stages of a cell, each with a record of its own."""


def records_of(cells: Iterable[TrainedCell]) -> dict[Digest, TaskRecord]:
    """Find the run records of the results of cells in their stores.

    Of several records of a result, that of the task which did the work counts; a cached task took no time.

    Returns:
        Digest of a checkpoint or an evaluation -> record, for those that have one.
    """
    stores: dict[str, Store] = {}
    digests: set[Digest] = set()
    for cell in cells:
        stores |= {store.uri: store for store in (cell.store, cell.reports) if store}
        digests |= {cell.report_digest, *(digest for digest, _ in cell.trainings)}
    return records_by_digest(stores.values(), digests)


def failures_of(store: Store, run: str) -> dict[str, str]:
    """Find why cells of a run have no result: name of the cell -> outcome class and message."""
    failures: dict[str, str] = {}
    for record in read_run(store, run).tasks.values():
        reason = str(
            record.outputs.get("failure") or (record.ending and f"{record.ending.outcome.label}: {record.message}") or ""
        )
        if record.step in CELL_STEPS and reason:
            failures.setdefault(str(record.inputs.get("cell")), reason.splitlines()[0])
    return failures


def records_by_digest(stores: Iterable[Store], digests: Collection[Digest]) -> dict[Digest, TaskRecord]:
    """Find the run records of manifests, of several that of the task which did the work."""
    records: dict[Digest, TaskRecord] = {}
    for record in (record for store in stores for record in _all_records(store)):
        match = MANIFEST_NAME.match(record.manifest)
        if match and (digest := match["digest"]) in digests and _rank(record) > _rank(records.get(digest)):
            records[digest] = record
    return records


def _rank(record: TaskRecord | None) -> int:
    """Order records of one result: none, of a task that runs other steps, of a cached step, of the step that did the work."""
    if record is None:
        return 0
    return 1 if record.step in CELL_STEPS else 2 if record.cache_hit else 3


def _all_records(store: Store) -> Iterator[TaskRecord]:
    for key in store.list("runs/"):
        if key.endswith(".json"):
            try:
                yield read_record(store, key)
            except DataError:  # damaged, or of another version: its facts are not known
                continue
