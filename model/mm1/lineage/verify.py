"""Verification of a lineage: every manifest, every blob and every signature, from a result back to the raw shards.

digests -> manifests (digest) -> their blobs (digest, each once) -> signatures of exported models (public key)
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm1.errors import CheckpointError, DataError, Mm1Error
from mm1.lineage.models import fetch_model, model_of
from mm1.lineage.signing import Signatures
from mm1.lineage.text import count
from mm1.manifests import Deployment, ExportedModel, Manifest, load_digest, manifest_key
from mm1.manifests.storing import refs_of
from mm1.store.base import BlobRef, Store, blob_key, damaged

PIECE_BYTES = 16 << 20
"""Bytes of a remote blob that are read at a time."""


@dataclass
class Verification:
    """Counts of verified objects, and the problems."""

    num_manifests: int = 0
    num_blobs: int = 0
    num_bytes: int = 0
    num_signatures: int = 0
    num_unsigned: int = 0
    """Exported models without a signature, or with one that was not checked because there was no key."""
    problems: list[Mm1Error] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the counts in a line."""
        parts = [count(self.num_manifests, "manifest"), f"{count(self.num_blobs, 'blob')} ({self.num_bytes / 1e6:,.1f} MB)"]
        parts.append(count(self.num_signatures, "signature"))
        if self.num_unsigned:
            parts.append(f"{count(self.num_unsigned, 'exported model')} whose signature was not checked")
        return ", ".join(parts)

    def raise_problems(self) -> None:
        """Raise the first problem with the number of all.

        Raises:
            DataError: a manifest or a blob is missing.
            CheckpointError: content does not match its digest or signature.
        """
        if self.problems:
            worst = next((problem for problem in self.problems if isinstance(problem, CheckpointError)), self.problems[0])
            number = count(len(self.problems), "problem")
            raise type(worst)(f"lineage verification failed, {number}: {worst}")


def verify_lineage(
    store: Store, digests: Iterable[str], signatures: Signatures, verification: Verification
) -> Iterator[tuple[str, Manifest]]:
    """Verify manifests with all their ancestors, nearest first.

    Args:
        store: the store.
        digests: digests of the manifests.
        signatures: public key of the signer; without one, signatures are counted and not checked.
        verification: gets counts and problems.

    Yields:
        Digest and manifest, after its blobs and its signature have been verified.
    """
    queue, seen = list(digests), set[str]()
    blobs = set[BlobRef]()
    while queue:
        digest = queue.pop(0)
        if digest in seen:
            continue
        seen.add(digest)
        try:
            manifest = load_digest(store, digest)
        except DataError as error:
            verification.problems.append(error)
            continue
        verification.num_manifests += 1
        queue.extend([*manifest.parents, *_others(manifest)])
        _verify_blobs(store, refs_of(manifest) - blobs, verification)
        blobs |= refs_of(manifest)
        if isinstance(manifest, ExportedModel):
            _verify_signature(store, digest, manifest, signatures, verification)
        yield digest, manifest


def _others(manifest: Manifest) -> list[str]:
    """Return manifests with content of this one that may not be among its parents."""
    match manifest:
        case Deployment(exported=str(digest)):
            return [digest]
        case ExportedModel():
            return [manifest.checkpoint]
        case _:
            return []


def _verify_blobs(store: Store, refs: set[BlobRef], verification: Verification) -> None:
    for ref in sorted(refs, key=lambda ref: ref.sha256):
        try:
            _verify_blob(store, ref)
        except (DataError, CheckpointError) as error:
            verification.problems.append(error)
        else:
            verification.num_blobs += 1
            verification.num_bytes += ref.num_bytes


def _verify_blob(store: Store, ref: BlobRef) -> None:
    if not store.has(ref):
        raise DataError(f"{store.uri}/{blob_key(ref)} does not exist, or is shorter than it was")
    digest: Any = hashlib.sha256()
    for piece in _pieces(store, ref):
        digest.update(piece)
    if digest.hexdigest() != ref.sha256:
        raise CheckpointError(damaged(store.uri, ref))


def _pieces(store: Store, ref: BlobRef) -> Iterator[bytes]:
    for offset in range(0, ref.num_bytes, PIECE_BYTES):
        yield store.read_range(blob_key(ref), offset, min(PIECE_BYTES, ref.num_bytes - offset))


def _verify_signature(
    store: Store, digest: str, manifest: ExportedModel, signatures: Signatures, verification: Verification
) -> None:
    name = f"{store.uri}/{manifest_key(digest)}"
    if signatures.verify_key is None:
        verification.num_unsigned += 1
        return
    try:
        with tempfile.TemporaryDirectory(prefix="mm1-verify-") as folder:
            signatures.check(fetch_model(model_of(store, manifest, name), Path(folder)), name)
    except (DataError, CheckpointError) as error:
        if not any(str(problem) in str(error) for problem in verification.problems):  # a damaged blob is a problem already
            verification.problems.append(error)
    else:
        verification.num_signatures += 1
