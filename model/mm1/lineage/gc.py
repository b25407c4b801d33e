"""Garbage collection of a store: removal of everything that is no longer referenced.

The roots are the records of kept runs, pins, and resume pointers of work unfinished in the last month. Any digest mentioned in
one of these objects keeps the manifest and the blob with that digest, and so on recursively. Everything else is removed, except
objects younger than an hour (a running step writes blobs before the manifest that references them).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mm1.errors import ConfigurationError, DataError
from mm1.lineage.records import RunRecords, all_runs
from mm1.manifests import manifest_key
from mm1.store.base import Store, blob_key, digest_of

MIN_AGE_S = 3600.0
RUNNING_FOR = timedelta(days=1)
UNFINISHED_FOR_S = 30 * 24 * 3600.0
"""How long unfinished training can be resumed; until then its checkpoints and progress files are kept."""
UNFINISHED = ("resume/", "watch/")
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
    kept_runs = [run for number, run in enumerate(runs) if number < keep or run.name in keep_runs]
    kept = _reachable(store, kept_runs)
    result = Garbage(runs=[run.name for run in runs if run not in kept_runs], running=_running(runs))
    now = time.time()
    for prefix in ("runs/", "cache/", *UNFINISHED, "manifests/", "blobs/"):
        for key in store.list(prefix):
            if key in kept:
                result.num_kept += 1
            elif now - store.modified(key) < min_age_s:
                result.num_kept += 1
                result.num_young += 1
            else:
                result.keys.append(key)
    return result


def remove(store: Store, garbage: Garbage) -> None:
    """Remove unreferenced objects, and scratch files of killed writers.

    Raises:
        ConfigurationError: a step is running; it may rely on an old blob that it did not have to write again.
    """
    if garbage.running:
        raise ConfigurationError(
            f"store {store.uri}: {', '.join(garbage.running)} is running (or was killed within a day): "
            "wait until it ends, or resume it"
        )
    for key in garbage.keys:
        store.delete(key)
    store.clear_scratch(MIN_AGE_S)


def _running(runs: list[RunRecords]) -> list[str]:
    since = datetime.now(UTC) - RUNNING_FOR
    return [run.name for run in runs if run.state == "running" and run.started > since]


def _reachable(store: Store, kept_runs: list[RunRecords]) -> set[str]:
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
    now = time.time()
    for prefix in UNFINISHED:
        for key in store.list(prefix):
            if now - store.modified(key) < UNFINISHED_FOR_S:
                keys.add(key)
                queue += [_read_verified(store, key)] if prefix == "resume/" else []
    queue += [key.encode() + b" " + store.read(key) for key in store.list("pins/")]
    while queue:
        for digest in {match.decode() for match in _DIGEST.findall(queue.pop())}:
            manifest = manifest_key(digest)
            keys.add(blob_key(digest))
            if manifest not in keys and store.exists(manifest):
                keys.add(manifest)
                queue.append(_read_verified(store, manifest, digest))
    return keys


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
