"""Metrics, profiles and Weights & Biases files of an unfinished run, kept in the store. Torch-free.

::

    watch/<key>/metrics/<last step>.jsonl   rows of metrics.jsonl since the part before
    watch/<key>/trace.json.gz               the profile that was asked for
    watch/<key>/wandb/<name>.wandb          offline files of Weights & Biases, one for each start of the trainer

The trainer writes them, wherever it runs; the step that waits for it takes them over (:func:`take`) when the work is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mm1.store.base import BlobRef, Store

METRICS = "metrics/"


def address(key: str, name: str = "") -> str:
    """The object's name of something that a piece of work leaves."""
    return f"watch/{key}/{name}"


def put_file(store: Store, key: str, name: str, path: Path) -> str:
    """Keep a file; gives its address."""
    store.write_file(address(key, name), path)
    return f"{store.uri}/{address(key, name)}"


def put_rows(store: Store, key: str, last_step: int, lines: str) -> None:
    """Keep the rows up to a step that are not kept yet."""
    store.write(address(key, f"{METRICS}{last_step:012d}.jsonl"), lines.encode())


def rows(store: Store, key: str) -> Iterator[str]:
    """All rows that are kept, in their order, as lines with their end."""
    for name in store.list(address(key, METRICS)):
        yield from store.read(name).decode().splitlines(keepends=True)


def cut_rows(store: Store, key: str, last_step: int) -> list[str]:
    """Forget the rows after a step.

    Returns:
        The lines that are left.
    """
    former = list(store.list(address(key, METRICS)))
    left = [line for line in rows(store, key) if json.loads(line)["step"] <= last_step]
    if left:
        put_rows(store, key, last_step, "".join(left))  # before the others go: a crash loses nothing
    for name in former:
        if not left or name != address(key, f"{METRICS}{last_step:012d}.jsonl"):
            store.delete(name)
    return left


def take(store: Store, key: str, metrics: Path) -> dict[str, BlobRef]:
    """Take over what a piece of work has left.

    Args:
        store: where it is.
        key: name of the work.
        metrics: file that the rows go to; not written where there are none.

    Returns:
        The other files by name, as blobs.
    """
    if lines := list(rows(store, key)):
        metrics.write_text("".join(lines))
    found = {}
    prefix = address(key)
    for name in store.list(prefix):
        if not name.startswith(prefix + METRICS):
            found[name.removeprefix(prefix)] = store.put_bytes(store.read(name))
    return found


def forget(store: Store, key: str) -> None:
    """Remove what was kept; the last thing to do."""
    for name in list(store.list(address(key))):
        store.delete(name)
