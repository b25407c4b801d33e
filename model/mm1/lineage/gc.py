"""Garbage collection of a store: removal of everything that is no longer referenced.

The roots are the records of kept runs, pins, what is served and what a rollback would serve, with their evaluations (the next
gate compares with them), what the last retrainings are about, and resume pointers of work unfinished in the last month. Any
digest mentioned in one of these objects keeps the manifest and the blob with that digest, and so on recursively. Runs that are
running are kept, too: their records name the inputs of their tasks from the start. Parts of an unfinished ingest are kept for a
month. Everything else is removed, except objects younger than an hour (a running step writes blobs before the manifest that
references them), and what killed writers left.

Ages are those of the store's own clock, which may differ from this machine's.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mm1.errors import ConfigurationError, DataError, Mm1Error
from mm1.lineage import serving
from mm1.lineage.records import RunRecords, TaskRecord, all_runs, record_key
from mm1.lineage.reports import checkpoint_of, find_reports
from mm1.manifests import Digest, load_digest, manifest_key
from mm1.store.base import Store, blob_key, digest_of
from mm1.store.scratch import killed

MIN_AGE_S = 3600.0
ALIVE_FOR_S = 3600.0
"""Time after the last sign of life in which a task counts as running; it gives one every few minutes."""
UNFINISHED_FOR_S = 30 * 24 * 3600.0
"""How long unfinished training can be resumed; until then its checkpoints and progress files are kept."""
UNFINISHED = ("resume/", "watch/")
PARTS = "cache/ingest_parts/"
POINTERS = ("pins/", "retraining/")
"""Small objects that name manifests to keep."""
UNKNOWN = "cannot determine what is still in use, so nothing is removed"
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass
class Garbage:
    """Objects to be removed."""

    keys: list[str] = field(default_factory=list)
    """In order of removal: pointers, then manifests, then blobs, so that a crash leaves no dangling references."""
    num_kept: int = 0
    num_young: int = 0
    """Number of kept objects that only their age protects."""
    running: list[str] = field(default_factory=list)
    """Runs that are running, during which nothing can be removed."""
    runs: list[str] = field(default_factory=list)
    """Runs whose records are removed."""
    leftovers: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Temporary files and folders, and unfinished uploads, of killed writers: name -> function that removes it."""


def find_garbage(store: Store, keep: int, keep_runs: Sequence[str] = (), min_age_s: float = MIN_AGE_S) -> Garbage:
    """Find all unreferenced objects.

    Args:
        store: the store.
        keep: number of most recent runs to keep.
        keep_runs: additional runs to keep.
        min_age_s: younger objects are kept.

    Raises:
        ConfigurationError: `keep` is negative, or a run to keep does not exist.
        DataError: an object that references others is damaged, so its references are unknown.
    """
    if keep < 0:
        raise ConfigurationError(f"keep: expected an integer of at least 0, got {keep}")
    runs = all_runs(store)
    if damaged := [problem for run in runs for problem in run.damaged]:
        raise DataError(f"{UNKNOWN}: {damaged[0]}")
    missing = set(keep_runs) - {run.name for run in runs}
    if missing:
        raise ConfigurationError(f"store {store.uri} has no run {', '.join(sorted(missing))}")
    running = running_tasks(store, runs)
    kept_runs = [run for number, run in enumerate(runs) if number < keep or run.name in keep_runs or run.name in running]
    kept = _reachable(store, kept_runs, runs)
    result = Garbage(runs=[run.name for run in runs if run not in kept_runs], running=sorted(running))
    now = store.now()
    for prefix in ("runs/", "cache/", *UNFINISHED, "manifests/", "blobs/"):
        for key in store.list(prefix):
            if key in kept:
                result.num_kept += 1
            elif now - store.modified(key) < min_age_s:
                result.num_kept += 1
                result.num_young += 1
            else:
                result.keys.append(key)
    result.leftovers = store.leftovers(min_age_s)
    for folder in killed(Path(tempfile.gettempdir()), min_age_s):
        result.leftovers[str(folder)] = partial(shutil.rmtree, folder, ignore_errors=True)
    return result


def remove(store: Store, garbage: Garbage) -> None:
    """Remove unreferenced objects and what killed writers left.

    Raises:
        ConfigurationError: a task is running; it may rely on an old blob that it did not have to write again.
    """
    if running := running_tasks(store, all_runs(store)):
        tasks = ", ".join(f"{run} is running ({', '.join(tasks)})" for run, tasks in running.items())
        raise ConfigurationError(f"store {store.uri}: {tasks}, or was killed within an hour: wait until it ends, or resume it")
    for key in garbage.keys:
        store.delete(key)
    for remove_it in garbage.leftovers.values():
        remove_it()


def running_tasks(store: Store, runs: Sequence[RunRecords]) -> dict[str, list[str]]:
    """Find the tasks that are running: run -> tasks. Each task is judged by its own last sign of life.

    A record without one, of MM1 0.1, counts for a month after the start of its task.
    """
    running: dict[str, list[str]] = {}
    now = store.now()
    for run in runs:
        for task in run.tasks.values():
            if task.state == "running" and _is_alive(store, run.name, task, now):
                running.setdefault(run.name, []).append(task.task)
    return running


def _is_alive(store: Store, run: str, task: TaskRecord, now: float) -> bool:
    if task.alive is None:
        return task.started is not None and now - task.started.timestamp() < UNFINISHED_FOR_S
    try:
        last = store.modified(record_key(run, task.task))  # the store's clock, not that of the task's machine
    except DataError:
        last = task.alive.timestamp()
    return now - last < ALIVE_FOR_S


def _reachable(store: Store, kept_runs: list[RunRecords], runs: list[RunRecords]) -> set[str]:
    keys: set[str] = set()
    queue: list[bytes] = []
    work = {record.cache_key for run in kept_runs for record in run.tasks.values()}
    for run in kept_runs:
        for key in store.list(f"runs/{run.name}/"):
            keys.add(key)
            queue.append(store.read(key))
    for key in store.list("cache/"):
        if any(part.removesuffix(".json") in work for part in key.split("/")[1:]):
            keys.add(key)
            queue.append(_read_verified(store, key))
    now = store.now()
    for prefix in (*UNFINISHED, *([PARTS] if _has_unfinished_ingest(runs, now) else [])):
        for key in store.list(prefix):
            if now - store.modified(key) < UNFINISHED_FOR_S:
                keys.add(key)
                queue += [_read_verified(store, key)] if prefix != "watch/" else []
    queue += [key.encode() + b" " + store.read(key) for prefix in POINTERS for key in store.list(prefix)]
    queue += [digest.encode() for digest in _served(store, serving.kept(store))]
    while queue:
        for digest in {match.decode() for match in _DIGEST.findall(queue.pop())}:
            manifest = manifest_key(digest)
            keys.add(blob_key(digest))
            if manifest not in keys and store.exists(manifest):
                keys.add(manifest)
                queue.append(_read_verified(store, manifest, digest))
    return keys


def _served(store: Store, deployments: Collection[Digest]) -> Iterator[Digest]:
    """Yield Deployments, and the evaluations of their checkpoints, which refer to them but not the other way round."""
    yield from deployments
    checkpoints = set()
    for digest in deployments:
        with suppress(Mm1Error):  # it is not in the store any more, or damaged, which is reported when it is reached
            checkpoints.add(checkpoint_of(store, digest, load_digest(store, digest)))
    yield from find_reports(store, checkpoints)


def _has_unfinished_ingest(runs: list[RunRecords], now: float) -> bool:
    """Whether an ingest was started within a month and is not done: its next attempt uses the parts that are done."""
    tasks = (task for run in runs for task in run.tasks.values() if task.step.startswith("ingest") and task.state != "done")
    return any(task.started and now - task.started.timestamp() < UNFINISHED_FOR_S for task in tasks)


def _read_verified(store: Store, key: str, digest: str = "") -> bytes:
    """Read a JSON object and verify it: a damaged one may have referenced more objects.

    Raises:
        DataError: it does not match its digest, or is not valid JSON.
    """
    data = store.read(key)
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        digest = "none"
    if digest and digest_of(data) != digest:
        raise DataError(f"{UNKNOWN}: {store.uri}/{key} is damaged; restore it, or delete it to give up what it references")
    return data
