"""The pointer from a piece of work to its newest checkpoints.

``resume/<key>.json`` names the last checkpoints of unfinished work, newest first, by digest, and at the end the finished one.
Whoever starts the same work again goes on from there. Checkpoints that no pointer and no kept run names any more are collected
by ``mm1 gc``. It also names the global batches that are to be left out because the run diverged at them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mm1.errors import CheckpointError, DataError
from mm1.manifests import Checkpoint, Files, digest_of_manifest, load_digest, manifest_key, publish
from mm1.store.base import BlobRef, Store, blob_key, digest_of_file

log = logging.getLogger(__name__)

KEEP = 2
"""Checkpoints that a pointer names."""


def _pointer_key(key: str) -> str:
    return f"resume/{key}.json"


def publish_checkpoint(store: Store, key: str, checkpoint: Checkpoint, keep: int = KEEP) -> str:
    """Publish a checkpoint's manifest, then let the pointer name it.

    Args:
        store: where its blobs are already.
        key: name of the work.
        checkpoint: unfinished work or the finished checkpoint (no trainer state).
        keep: checkpoints that the pointer goes on naming, this one counted.

    Returns:
        Address of the manifest.
    """
    uri = publish(store, checkpoint)
    digest = digest_of_manifest(checkpoint)
    pointer = _read(store, key)
    former = [item for item in pointer["checkpoints"] if item != digest]
    store.write_json(_pointer_key(key), {**pointer, "checkpoints": [digest, *former][:keep]})
    _drop(store, former[keep - 1 :])
    return uri


def _drop(store: Store, digests: list[str]) -> None:
    """Delete the large files of checkpoints that no pointer names any more: a run of weeks would fill any store."""
    if not digests:
        return
    pointers = [store.read_json(name) or {} for name in store.list("resume/")]
    named = {digest for pointer in pointers for digest in pointer.get("checkpoints", [])}
    kept = {ref.sha256 for digest in named for ref in _weights(store, digest)}
    for digest in set(digests) - named:
        for ref in _weights(store, digest):
            if ref.sha256 not in kept:
                store.delete(blob_key(ref))
        store.delete(manifest_key(digest))


def _weights(store: Store, digest: str) -> list[BlobRef]:
    """Files of an unfinished checkpoint that are its own: weights and states."""
    try:
        checkpoint = load_digest(store, digest)
    except (CheckpointError, DataError):
        return []
    if not isinstance(checkpoint, Checkpoint) or not checkpoint.trainer:
        return []
    files = {**checkpoint.model, **checkpoint.trainer}
    return [ref for name, ref in files.items() if name.endswith(".safetensors")]


def skipped_batches(store: Store, key: str) -> list[int]:
    """Global batches (by number) that this work leaves out."""
    return [int(number) for number in _read(store, key)["skipped"]]


def skip_batch(store: Store, key: str, number: int) -> None:
    """Let this work leave out a global batch."""
    pointer = _read(store, key)
    store.write_json(_pointer_key(key), {**pointer, "skipped": sorted({*pointer["skipped"], number})})


def newest_checkpoint(
    store: Store,
    key: str,
    rank: int = 0,
    world_size: int = 1,
    agree: Callable[[bool], bool] = lambda is_whole: is_whole,
) -> Checkpoint | None:
    """The newest checkpoint of a piece of work whose files are all undamaged.

    Args:
        store: where it is.
        key: name of the work.
        rank: this process, which verifies its share of the files.
        world_size: number of processes.
        agree: whether all processes say yes.

    Returns:
        The checkpoint (with an empty ``trainer`` if it is the finished one), or None where there is no former work.

    Raises:
        CheckpointError: there are checkpoints, and none of them is whole.
    """
    faults = []
    for digest in _read(store, key)["checkpoints"]:
        fault = "another rank found a damaged file"
        try:
            checkpoint = _verified(store, digest, rank, world_size)
        except (CheckpointError, DataError) as error:
            checkpoint, fault = None, str(error)
        if agree(checkpoint is not None):
            return checkpoint
        faults.append(fault)
        log.warning("checkpoint %s cannot be used, trying the one before: %s", digest[:12], fault)
    if faults:
        raise CheckpointError(
            f"none of the last checkpoints is whole ({faults[0]}); "
            f"delete {store.uri}/{_pointer_key(key)} to start from the beginning"
        )
    return None


def forget(store: Store, key: str) -> None:
    """Remove the pointer: the work is done and its outcome known elsewhere."""
    store.delete(_pointer_key(key))


def address(store: Store, checkpoint: Checkpoint) -> str:
    """A published checkpoint's address."""
    return f"{store.uri}/{manifest_key(digest_of_manifest(checkpoint))}"


def _read(store: Store, key: str) -> dict[str, Any]:
    return {"checkpoints": [], "skipped": [], **(store.read_json(_pointer_key(key)) or {})}


def _verified(store: Store, digest: str, rank: int, world_size: int) -> Checkpoint:
    checkpoint = load_digest(store, digest)
    if not isinstance(checkpoint, Checkpoint):
        raise CheckpointError(f"{manifest_key(digest)} is no checkpoint")
    files: Files = {**checkpoint.model, **checkpoint.trainer}
    if checkpoint.history:
        files["history"] = checkpoint.history
    for name, ref in sorted(files.items(), key=lambda item: -item[1].num_bytes)[rank::world_size]:
        if digest_of_file(store.local_path(ref)) != ref:
            raise CheckpointError(f"{store.uri}/{blob_key(ref)} ({name}) does not match its digest")
    return checkpoint
