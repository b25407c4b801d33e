"""Garbage collection of a store: what nothing needs any more.

Kept is what can be reached from the records of kept runs, from pins and from resume pointers of work that was not finished in
the last month: any digest that one of these objects names keeps the manifest and the blob of that digest, and so on from there.
Everything else goes, except what is younger than an hour (a running step writes blobs before it writes the manifest that names
them).
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
"""How long unfinished training may still be taken up: its checkpoints, and what it left to look at."""
UNFINISHED = ("resume/", "watch/")
UNKNOWN = "nothing is removed while it is not known what is still needed"
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass
class Garbage:
    """What would be removed."""

    keys: list[str] = field(default_factory=list)
    """In the order of removal: pointers first, then manifests, then blobs; a crash leaves nothing that points to nothing."""
    num_kept: int = 0
    runs: list[str] = field(default_factory=list)
    """Runs whose records go."""


def find_garbage(store: Store, keep: int, keep_runs: Sequence[str] = (), min_age_s: float = MIN_AGE_S) -> Garbage:
    """Work out what nothing needs.

    Args:
        store: the store.
        keep: how many of the newest runs are kept.
        keep_runs: runs that are kept as well.
        min_age_s: younger objects stay.

    Raises:
        ConfigurationError: `keep` is negative, a run to keep does not exist, or a step is running.
        DataError: something that keeps others is damaged, so that it is not known what it keeps.
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
    _refuse_while_running(store, runs)
    kept = _reachable(store, kept_runs)
    result = Garbage(runs=[run.name for run in runs if run not in kept_runs])
    now = time.time()
    for prefix in ("runs/", "cache/", *UNFINISHED, "manifests/", "blobs/"):
        for key in store.list(prefix):
            if key in kept or now - store.modified(key) < min_age_s:
                result.num_kept += 1
            else:
                result.keys.append(key)
    return result


def remove(store: Store, garbage: Garbage) -> None:
    """Remove what nothing needs, and scratch files that killed writers left."""
    for key in garbage.keys:
        store.delete(key)
    store.clear_scratch(MIN_AGE_S)


def _refuse_while_running(store: Store, runs: list[RunRecords]) -> None:
    """A running step may rely on an old blob that it did not have to write again."""
    since = datetime.now(UTC) - RUNNING_FOR
    running = [run.name for run in runs if run.state == "running" and run.started > since]
    if running:
        raise ConfigurationError(
            f"store {store.uri}: {', '.join(running)} is running (or was killed within a day): let it end, or continue it"
        )


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
            queue.append(_whole(store, key))
    now = time.time()
    for prefix in UNFINISHED:
        for key in store.list(prefix):
            if now - store.modified(key) < UNFINISHED_FOR_S:
                keys.add(key)
                queue += [_whole(store, key)] if prefix == "resume/" else []
    queue += [key.encode() + b" " + store.read(key) for key in store.list("pins/")]
    while queue:
        for digest in {match.decode() for match in _DIGEST.findall(queue.pop())}:
            manifest = manifest_key(digest)
            keys.add(blob_key(digest))
            if manifest not in keys and store.exists(manifest):
                keys.add(manifest)
                queue.append(_whole(store, manifest, digest))
    return keys


def _whole(store: Store, key: str, digest: str = "") -> bytes:
    """The content of a JSON object that names others; one that is damaged may have named more.

    Raises:
        DataError: it does not have its digest, or is not JSON.
    """
    data = store.read(key)
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        digest = "none"
    if digest and digest_of(data) != digest:
        raise DataError(f"{UNKNOWN}: {store.uri}/{key} is damaged; restore it, or delete it to give up what it names")
    return data
