"""Metrics, profiles and Weights & Biases files of an unfinished run, kept in the store. Torch-free.

::

    watch/<key>/metrics/<last step>.jsonl   rows of metrics.jsonl since the previous part
    watch/<key>/starts/<time>.json          a start of the trainer, for the goodput
    watch/<key>/spent/<time>-<run>.json     device hours of a start of the trainer
    watch/<key>/trace.json.gz               the requested profile
    watch/<key>/wandb/<name>.wandb          offline files of Weights & Biases, one for each start of the trainer
    watch/<key>/flight-recorder/<name>      last collectives and stacks of ranks whose collective did not finish

The trainer writes them, wherever it runs; the step that waits for it collects them (:func:`take`) when the work is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mm1.store.base import BlobRef, Store

METRICS = "metrics/"
STARTS = "starts/"
SPENT = "spent/"
FLIGHT_FOLDER = "flight-recorder"
"""Folder for the files of ranks whose collective did not finish, in the job's folder and in the store."""


def address(key: str, name: str = "") -> str:
    """Name of an object that belongs to a piece of work."""
    return f"watch/{key}/{name}"


def put_file(store: Store, key: str, name: str, path: Path) -> str:
    """Store a file and return its address."""
    store.write_file(address(key, name), path)
    return f"{store.uri}/{address(key, name)}"


def put_rows(store: Store, key: str, last_step: int, lines: str) -> None:
    """Store the new rows up to a step."""
    store.write(address(key, f"{METRICS}{last_step:012d}.jsonl"), lines.encode())


def rows(store: Store, key: str) -> Iterator[str]:
    """Iterate over all stored rows in order, as lines with their line ends."""
    for name in store.list(address(key, METRICS)):
        yield from store.read(name).decode().splitlines(keepends=True)


def put_start(store: Store, key: str, start: dict[str, float]) -> None:
    """Store a start of the trainer.

    Args:
        store: store of the files.
        key: name of the work.
        start: ``started`` (of the process) and ``ready`` (for its first step), s since 1970; ``lost_s``, the seconds of earlier
            steps that are not in its checkpoint.
    """
    store.write_json(address(key, f"{STARTS}{round(start['ready'] * 1e6):017d}.json"), start)


def starts(store: Store, key: str) -> list[dict[str, float]]:
    """Return all starts of the trainer, earliest first."""
    return [start for name in sorted(store.list(address(key, STARTS))) if (start := store.read_json(name))]


def put_device_hours(store: Store, key: str, run: str, started: float, hours: float) -> None:
    """Store the device hours of a start of the trainer so far.

    Args:
        store: store of the files.
        key: name of the work.
        run: run that the trainer works for.
        started: start time of its process, s since 1970.
        hours: hours of all its processes together.
    """
    store.write_json(_spent_key(key, run, started), {"run": run, "device_hours": hours})


def device_hours(store: Store, key: str, run: str, without: float | None = None) -> float:
    """Sum the device hours that a run has spent on a piece of work, over all starts of the trainer.

    Args:
        store: store of the files.
        key: name of the work.
        run: name of the run.
        without: start time of a trainer that does not count, s since 1970.
    """
    names = set(store.list(address(key, SPENT))) - {_spent_key(key, run, without) if without is not None else ""}
    entries = [entry for name in sorted(names) if (entry := store.read_json(name))]
    return sum(float(entry["device_hours"]) for entry in entries if entry["run"] == run)


def _spent_key(key: str, run: str, started: float) -> str:
    return address(key, f"{SPENT}{round(started * 1e3):014d}-{run}.json")


def cut_rows(store: Store, key: str, last_step: int) -> tuple[list[str], list[str]]:
    """Remove the rows after a step.

    Returns:
        The remaining lines, and those that were removed.
    """
    previous = list(store.list(address(key, METRICS)))
    left: list[str] = []
    removed: list[str] = []
    for line in rows(store, key):
        (left if json.loads(line)["step"] <= last_step else removed).append(line)
    if left:
        put_rows(store, key, last_step, "".join(left))  # before the deletions: a crash loses nothing
    for name in previous:
        if not left or name != address(key, f"{METRICS}{last_step:012d}.jsonl"):
            store.delete(name)
    return left, removed


def take(store: Store, key: str, metrics: Path) -> dict[str, BlobRef]:
    """Collect the files of a piece of work.

    Args:
        store: store of the files.
        key: name of the work.
        metrics: file to write the rows to; not written if there are none.

    Returns:
        The other files by name, as blobs.
    """
    if lines := list(rows(store, key)):
        metrics.write_text("".join(lines))
    files = {}
    prefix = address(key)
    for name in store.list(prefix):
        if not name.startswith(tuple(prefix + own for own in (METRICS, STARTS, SPENT))):
            files[name.removeprefix(prefix)] = store.put_bytes(store.read(name))
    return files


def forget(store: Store, key: str) -> None:
    """Remove the files of a piece of work; call this last."""
    for name in list(store.list(address(key))):
        store.delete(name)
