"""The pointer from a piece of work to its newest checkpoints.

``resume/<key>.json`` lists the digests of the last checkpoints of unfinished work, newest first, and at the end the finished
one. Starting the same work again resumes from them. ``mm1 gc`` removes checkpoints that neither a pointer nor a kept run
references. The pointer also lists the global batches to skip because the run diverged at them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mm1.config.resolve import explain
from mm1.errors import CheckpointError, ConfigurationError, DataError
from mm1.manifests import Checkpoint, Digest, Files, digest_of_manifest, load_digest, manifest_key, publish
from mm1.store.base import BlobRef, Store, blob_key

log = logging.getLogger(__name__)

KEEP = 2
"""Number of checkpoints that a pointer lists."""


def _pointer_key(key: str) -> str:
    return f"resume/{key}.json"


def publish_checkpoint(store: Store, key: str, checkpoint: Checkpoint, keep: int = KEEP) -> str:
    """Publish a checkpoint's manifest, then add it to the pointer.

    Args:
        store: store that already has its blobs.
        key: name of the work.
        checkpoint: checkpoint of unfinished work, or the finished one (without trainer state).
        keep: number of checkpoints that the pointer lists, including this one.

    Returns:
        Address of the manifest.
    """
    uri = publish(store, checkpoint)
    digest = digest_of_manifest(checkpoint)
    pointer = _read(store, key)
    previous = [item for item in pointer["checkpoints"] if item != digest]
    store.write_json(_pointer_key(key), {**pointer, "checkpoints": [digest, *previous][:keep]})
    _drop(store, previous[keep - 1 :])
    return uri


def _drop(store: Store, digests: list[str]) -> None:
    """Delete the large files of checkpoints that no pointer lists; otherwise a run of weeks would fill any store."""
    if not digests:
        return
    try:
        pointers = [_read(store, name.removeprefix("resume/").removesuffix(".json")) for name in store.list("resume/")]
    except ConfigurationError as error:
        log.warning("older checkpoints stay, because a damaged pointer may name them: %s", error)
        return
    listed = {digest for pointer in pointers for digest in pointer["checkpoints"]}
    kept = {ref.sha256 for digest in listed for ref in _weights(store, digest)}
    for digest in set(digests) - listed:
        for ref in _weights(store, digest):
            if ref.sha256 not in kept:
                store.delete(blob_key(ref))
        store.delete(manifest_key(digest))


def _weights(store: Store, digest: str) -> list[BlobRef]:
    """Return the large files of an unfinished checkpoint: weights and states."""
    try:
        checkpoint = load_digest(store, digest)
    except (CheckpointError, DataError):
        return []
    if not isinstance(checkpoint, Checkpoint) or not checkpoint.trainer:
        return []
    files = {**checkpoint.model, **checkpoint.trainer}
    return [ref for name, ref in files.items() if name.endswith(".safetensors")]


def skipped_batches(store: Store, key: str) -> list[int]:
    """Return the numbers of the global batches that this work skips."""
    return [int(number) for number in _read(store, key)["skipped"]]


def skip_batch(store: Store, key: str, number: int) -> None:
    """Make this work skip a global batch."""
    pointer = _read(store, key)
    store.write_json(_pointer_key(key), {**pointer, "skipped": sorted({*pointer["skipped"], number})})


def newest_checkpoint(
    store: Store,
    key: str,
    rank: int = 0,
    world_size: int = 1,
    agree: Callable[[bool, int], bool] = lambda is_whole, num_bytes: is_whole,
    difference: Callable[[Checkpoint], str] = lambda checkpoint: "",
) -> Checkpoint | None:
    """Find the newest checkpoint of a piece of work whose files are all undamaged.

    Args:
        store: store of the checkpoints.
        key: name of the work.
        rank: this process, which verifies its share of the files.
        world_size: number of processes.
        agree: returns whether its first argument is true on all processes; the second is the number of bytes to verify.
        difference: describes why a checkpoint is not one of this work; empty if it is.

    Returns:
        The checkpoint (with an empty ``trainer`` if it is the finished one), or None if the work has none.

    Raises:
        ConfigurationError: the pointer is damaged, or names checkpoints of other work only.
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    faults, num_foreign = [], 0
    for digest in _read(store, key)["checkpoints"]:
        checkpoint, fault = None, "another rank found a damaged file"
        is_whole = False
        try:
            checkpoint = _checkpoint(store, digest)
            if text := difference(checkpoint):
                num_foreign += 1
                raise CheckpointError(f"it is a checkpoint of other work ({text})")
            _verify(store, checkpoint, rank, world_size)
            is_whole = True
        except (CheckpointError, DataError) as error:
            fault = str(error)
        num_bytes = sum(ref.num_bytes for ref in _files(checkpoint).values()) if checkpoint is not None else 0
        if agree(is_whole, num_bytes):
            return checkpoint
        faults.append(fault)
        log.warning("cannot use checkpoint %s, trying the previous one: %s", digest[:12], fault)
    if not faults:
        return None
    remedy = f"delete {store.uri}/{_pointer_key(key)} to start from the beginning"
    if num_foreign == len(faults):
        raise ConfigurationError(f"cannot resume from checkpoint {digest[:12]}: {faults[-1]}; {remedy}")
    raise CheckpointError(f"all of the last checkpoints are damaged ({faults[0]}): {remedy}")


def forget(store: Store, key: str) -> None:
    """Remove the pointer, once the work is done and its result is recorded."""
    store.delete(_pointer_key(key))


def address(store: Store, checkpoint: Checkpoint) -> str:
    """Return the address of a published checkpoint."""
    return f"{store.uri}/{manifest_key(digest_of_manifest(checkpoint))}"


class _Pointer(BaseModel):
    """Content of a pointer; other fields are kept."""

    model_config = ConfigDict(extra="allow")

    checkpoints: list[Digest] = []
    skipped: list[Annotated[int, Field(ge=0)]] = []


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        value = store.read_json(_pointer_key(key))
        return _Pointer.model_validate({} if value is None else value).model_dump()
    except (DataError, ValidationError) as error:
        reason = explain(error)[:200] if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(
            f"{store.uri}/{_pointer_key(key)} is damaged: {reason}; delete it to start from the beginning"
        ) from None


def _checkpoint(store: Store, digest: str) -> Checkpoint:
    checkpoint = load_digest(store, digest)
    if not isinstance(checkpoint, Checkpoint):
        raise CheckpointError(f"{manifest_key(digest)} is not a checkpoint")
    return checkpoint


def _files(checkpoint: Checkpoint) -> Files:
    files: Files = {**checkpoint.model, **checkpoint.trainer}
    return {**files, "history": checkpoint.history} if checkpoint.history else files


def _verify(store: Store, checkpoint: Checkpoint, rank: int, world_size: int) -> None:
    """Verify this process's share of the files."""
    for name, ref in sorted(_files(checkpoint).items(), key=lambda item: -item[1].num_bytes)[rank::world_size]:
        try:
            store.verified_path(ref)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
