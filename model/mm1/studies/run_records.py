"""Run records of the trainings and evaluations of cells: what they took, on which machine, with which inputs. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mm1.errors import DataError
from mm1.lineage.records import TaskRecord, read_record
from mm1.manifests import MANIFEST_NAME, Digest
from mm1.store.base import Store
from mm1.studies.cells import TrainedCell


def records_of(cells: Iterable[TrainedCell]) -> dict[Digest, TaskRecord]:
    """Find the run records of the results of cells in their stores.

    Of several records of a result, that of the task which did the work counts; a cached task took no time.

    Returns:
        Digest of a checkpoint or an evaluation -> record, for those that have one.
    """
    stores: dict[str, Store] = {}
    digests: set[Digest] = set()
    for cell in cells:
        stores |= {store.uri: store for store in (cell.store, cell.reports)}
        digests |= {cell.report_digest, *(digest for digest, _ in cell.trainings)}
    records: dict[Digest, TaskRecord] = {}
    for record in (record for store in stores.values() for record in _all_records(store)):
        match = MANIFEST_NAME.match(record.manifest)
        if match and (digest := match["digest"]) in digests and _rank(record) > _rank(records.get(digest)):
            records[digest] = record
    return records


def _rank(record: TaskRecord | None) -> int:
    """Order records of one result: none, cached, of a task that has others run, of the training itself."""
    return 0 if record is None else 1 if record.cache_hit else 3 if "train_s" in record.facts else 2


def _all_records(store: Store) -> Iterator[TaskRecord]:
    for key in store.list("runs/"):
        if key.endswith(".json"):
            try:
                yield read_record(store, key)
            except DataError:  # damaged, or of another version: its facts are not known
                continue
