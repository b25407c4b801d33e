"""The object store: content-addressed blobs, immutable manifests, small mutable pointers.

Layout below the store's address::

    blobs/<aa>/<sha256>            file contents; content-addressed, so writing twice changes nothing
    manifests/<sha256>.json        records of results (mm1.manifests)
    runs/<run>/<task>.json         provenance: time, host, duration; never hashed
    cache/<step>/<key>.json        step cache: outputs of a finished step
    resume/<key>.json              latest checkpoints of unfinished work
    watch/<key>/                   progress files of unfinished training
    pins/<name>                    manifests protected from `mm1 gc`
    features/<view>/<name>.parquet feature-store rows: observations about shards with their timestamps; never changed
    mixes/<sources>.json           latest mixture of a set of sources, with its as-of time
    serving/<target>/              what is served, and the log of its changes
    retraining/<target>.json       what its last retraining was about, and the device hours spent

Blobs are written first and the manifest last, so a crash leaves nothing partially visible.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import CheckpointError, DataError

CHUNK_BYTES = 1 << 20
FOLDERS = ("blobs", "manifests", "runs", "cache", "resume", "watch", "pins", "features", "mixes", "serving", "retraining")
"""Folders of a store; whatever else is at its address does not belong to it."""
LOOKUPS = 16
"""Concurrent requests for the sizes of objects."""


class BlobRef(BaseModel):
    """A file's content: its digest and its size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_bytes: int = Field(ge=0)


def digest_of(data: bytes) -> str:
    """Compute the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> BlobRef:
    """Compute SHA-256 and size of a file, read in chunks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BlobRef(sha256=digest, num_bytes=path.stat().st_size)


def blob_key(ref: BlobRef | str) -> str:
    """Return the object name of a blob."""
    sha256 = ref if isinstance(ref, str) else ref.sha256
    return f"blobs/{sha256[:2]}/{sha256}"


def damaged(uri: str, ref: BlobRef) -> str:
    """Return the message about a blob whose content in the store at ``uri`` is not what its address says."""
    return (
        f"{uri}/{blob_key(ref)} does not match its digest: damaged in the store; "
        "delete it and run the step that wrote it with --no-cache"
    )


class Store(ABC):
    """Objects under one address. Subclasses implement nine primitives; the rest is provided here."""

    uri: str
    """Address without a trailing slash, for example ``file:///data/store`` or ``s3://bucket/prefix``."""
    is_local = False
    """Whether :meth:`local_path` returns the store's own files."""

    @property
    def block_folder(self) -> Path:
        """Local folder for cached blocks of large objects, for stores that are not local."""
        raise NotImplementedError

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Write a small object atomically; the last writer wins."""

    @abstractmethod
    def write_file(self, key: str, path: Path) -> None:
        """Write a file's content as an object atomically."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Read an object. Raises DataError if it does not exist."""

    @abstractmethod
    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Read a byte range of an object; fewer bytes at its end. Raises DataError if it does not exist."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return the size of an object, bytes; None if it does not exist."""

    @abstractmethod
    def modified(self, key: str) -> float:
        """Return the time of an object's last write, s since 1970. Raises DataError if it does not exist."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """List the names of all objects that start with ``prefix``, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an object; no error if it does not exist."""

    @abstractmethod
    def local_path(self, ref: BlobRef) -> Path:
        """Provide a blob as a read-only local file: a verified copy, or the local store's own file as it is.

        Raises:
            DataError: the blob does not exist.
            CheckpointError: it is damaged in the bucket.
        """

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return self.size(key) is not None

    # -- blobs ----------------------------------------------------------------------------------------------------

    def has(self, ref: BlobRef) -> bool:
        """Whether the store has a blob, in its whole size; its content is not read."""
        return self.size(blob_key(ref)) == ref.num_bytes

    def lost(self, refs: Iterable[BlobRef]) -> Iterator[BlobRef]:
        """Yield the blobs that the store does not have (:meth:`has`); several are looked up at the same time."""
        refs = list(refs)
        with ThreadPoolExecutor(LOOKUPS) as executor:
            try:
                yield from (ref for ref, is_there in zip(refs, executor.map(self.has, refs), strict=True) if not is_there)
            finally:
                executor.shutdown(cancel_futures=True)

    def put_bytes(self, data: bytes) -> BlobRef:
        """Store bytes at their content address."""
        ref = BlobRef(sha256=digest_of(data), num_bytes=len(data))
        if not self.has(ref):
            self.write(blob_key(ref), data)
        return ref

    def put_file(self, path: Path) -> BlobRef:
        """Store a file's content at its content address."""
        ref = digest_of_file(path)
        if not self.has(ref):
            self.write_file(blob_key(ref), path)
        return ref

    def take_blob(self, path: Path, ref: BlobRef) -> BlobRef:
        """Store a file that was hashed and synced while it was written. The file may be moved.

        Args:
            path: the file, ideally in :meth:`scratch`.
            ref: its digest and size.
        """
        if not self.has(ref):
            self.take_file(blob_key(ref), path)
        return ref

    def take_file(self, key: str, path: Path) -> None:
        """Turn a file that is synced to disk into an object atomically. The file may be moved."""
        self.write_file(key, path)

    def scratch(self) -> Path:
        """Return the local folder for files to be passed to :meth:`take_file` or :meth:`take_blob`."""
        return Path(tempfile.gettempdir())

    def now(self) -> float:
        """Return the time of the clock that :meth:`modified` uses, s since 1970; that of this machine if there is no other."""
        return time.time()

    def leftovers(self, min_age_s: float) -> dict[str, Callable[[], object]]:
        """Find what killed writers left: temporary files, scratch folders and unfinished uploads.

        Args:
            min_age_s: younger ones may still be written.

        Returns:
            Name -> function that removes it.
        """
        return {}

    def put_folder(self, folder: Path) -> dict[str, BlobRef]:
        """Store all files of a folder; returns relative POSIX path -> blob, sorted."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): self.put_file(path) for path in files}

    def get_bytes(self, ref: BlobRef) -> bytes:
        """Read and verify a blob.

        Raises:
            DataError: the blob does not exist.
            CheckpointError: the content does not match its digest.
        """
        for _ in range(2):  # a transfer may damage it, too
            data = self.read(blob_key(ref))
            if len(data) == ref.num_bytes and digest_of(data) == ref.sha256:
                return data
        raise CheckpointError(damaged(self.uri, ref))

    def verified_path(self, ref: BlobRef) -> Path:
        """Provide a blob as a read-only local file whose content matches its digest.

        Raises:
            DataError: the blob does not exist.
            CheckpointError: it is damaged in the store.
        """
        path = self.local_path(ref)
        if self.is_local and digest_of_file(path) != ref:
            raise CheckpointError(damaged(self.uri, ref))
        return path

    def get_folder(self, files: dict[str, BlobRef], folder: Path, *, verify: bool = True) -> Path:
        """Materialise a stored folder as local files (links to a local store's files if the file system supports it).

        Raises:
            CheckpointError: a blob does not match its digest.
        """
        for name, ref in files.items():
            target = folder / name
            if not (target.parent.resolve() / target.name).is_relative_to(folder.resolve()) or target.name == "..":
                raise DataError(f"file name {name!r} points outside its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source = self.verified_path(ref) if verify else self.local_path(ref)
            except CheckpointError as error:
                raise CheckpointError(f"{name}: {error}") from None
            target.unlink(missing_ok=True)
            target.symlink_to(source)
        return folder

    # -- JSON -----------------------------------------------------------------------------------------------------

    def write_json(self, key: str, value: Any) -> None:
        """Write a small JSON object (sorted keys) such as a pointer or a record."""
        self.write(key, (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode())

    def read_json(self, key: str) -> Any:
        """Read a JSON object; None if it does not exist.

        Raises:
            DataError: not valid JSON.
        """
        if not self.exists(key):
            return None
        try:
            return json.loads(self.read(key))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.uri}/{key} is not valid JSON: {error}") from None
