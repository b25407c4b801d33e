"""Run records of the trainings and evaluations of cells: what they took, on which machine, with which inputs. Torch-free."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mm1.errors import DataError, Mm1Error
from mm1.lineage.records import TaskRecord, read_record, read_run
from mm1.manifests import MANIFEST_NAME, Digest
from mm1.store.base import BlobRef, Store
from mm1.studies.cells import TrainedCell

log = logging.getLogger("mm1")

METRICS = "metrics.json"
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


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a training took; None and empty where it is not known."""

    seconds: float | None = None
    flops: float | None = None
    device: str = ""
    """GPU or processor."""


def measured(cells: Iterable[TrainedCell], records: Mapping[Digest, TaskRecord]) -> dict[Digest, Measured]:
    """Read what the trainings of cells took from their metrics.json, which a cached task has, too.

    Args:
        cells: the cells.
        records: run records of their trainings.

    Returns:
        Digest of a checkpoint -> measurements, for those that have a record with a readable metrics.json.
    """
    trainings = {digest: cell.store for cell in cells for digest, _ in cell.trainings}
    return {digest: _measured(store, records[digest]) for digest, store in trainings.items() if digest in records}


def _measured(store: Store, record: TaskRecord) -> Measured:
    try:
        metrics = json.loads(store.get_bytes(BlobRef.model_validate(record.artifacts[METRICS])))
        facts = metrics["facts"]
        return Measured(
            seconds=metrics["seconds"], flops=facts.get("flops"), device=facts.get("gpu") or facts.get("processor") or ""
        )
    except (Mm1Error, ValueError, KeyError, TypeError) as error:
        log.warning("the cost of task %s of run %s is not known: %s", record.task, record.run, error)
        return Measured()


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
