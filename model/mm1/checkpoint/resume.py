"""The pointer from a piece of work to its newest checkpoints.

``resume/<cache key>.json`` names the last checkpoints of unfinished work, newest first, by digest, and at the end the finished
one. Whoever starts the same work again goes on from there. Checkpoints that no pointer and no kept run names any more are
collected by ``mm1 gc``.
"""

from __future__ import annotations

import logging
from typing import Any

from mm1.errors import CheckpointError, DataError
from mm1.manifests import Checkpoint, Files, digest_of_manifest, load_digest, manifest_key, publish
from mm1.store.base import Store, blob_key, digest_of_file

log = logging.getLogger(__name__)

KEEP = 2


def _pointer_key(key: str) -> str:
    return f"resume/{key}.json"


def publish_checkpoint(store: Store, key: str, checkpoint: Checkpoint) -> str:
    """Publish a checkpoint's manifest, then let the pointer name it.

    Args:
        store: where its blobs are already.
        key: name of the work.
        checkpoint: unfinished work or the finished checkpoint (no trainer state).

    Returns:
        Address of the manifest.
    """
    uri = publish(store, checkpoint)
    digest = digest_of_manifest(checkpoint)
    former = [item for item in _read(store, key) if item != digest]
    store.write_json(_pointer_key(key), {"checkpoints": [digest, *former][:KEEP]})
    return uri


def newest_checkpoint(store: Store, key: str) -> Checkpoint | None:
    """The newest checkpoint of a piece of work whose files are all undamaged.

    Returns:
        The checkpoint (with an empty ``trainer`` if it is the finished one), or None where there is no former work.

    Raises:
        CheckpointError: there are checkpoints, and none of them is whole.
    """
    digests = _read(store, key)
    faults = []
    for digest in digests:
        try:
            return _verified(store, digest)
        except (CheckpointError, DataError) as error:
            faults.append(str(error))
            log.warning("checkpoint %s cannot be used, trying the one before: %s", digest[:12], error)
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


def _read(store: Store, key: str) -> list[str]:
    pointer: dict[str, Any] = store.read_json(_pointer_key(key)) or {}
    return [str(digest) for digest in pointer.get("checkpoints", [])]


def _verified(store: Store, digest: str) -> Checkpoint:
    checkpoint = load_digest(store, digest)
    if not isinstance(checkpoint, Checkpoint):
        raise CheckpointError(f"{manifest_key(digest)} is no checkpoint")
    files: Files = {**checkpoint.model, **checkpoint.trainer}
    if checkpoint.history:
        files["history"] = checkpoint.history
    for name, ref in files.items():
        if digest_of_file(store.local_path(ref)) != ref:
            raise CheckpointError(f"{store.uri}/{blob_key(ref)} ({name}) does not match its digest")
    return checkpoint
