"""Byte access to tars: a local file, or ranges of an object in a size-limited cache.

(offset, size) -> blocks of 4 MiB -> in the cache folder? -> read, otherwise fetched by a range request, written, read
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mm1.errors import DataError
from mm1.store.base import BlobRef, Store, blob_key

BLOCK_BYTES = 4 << 20
MAX_CONCURRENT_FETCHES = 8
"""Concurrent range requests per process."""
SLACK = 16
"""The cache's size is checked whenever a process has written 1/16 of its limit."""


class TarBytes(Protocol):
    """Random access to the bytes of a tar."""

    def read(self, offset: int, size: int) -> bytes:
        """Read a byte range; fewer bytes at the end of the tar. Raises DataError or NetworkError."""

    def prefetch(self, offset: int, size: int) -> None:
        """Prefetch bytes that will be read soon."""

    def discard(self, offset: int, size: int) -> bool:
        """Drop cached copies of these bytes; True if reading them again may return different bytes."""

    def close(self) -> None:
        """Close open files."""


class FileBytes:
    """A tar in a local file.

    Args:
        path: returns the path; called on the first read.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self._lock = threading.Lock()

    @cached_property
    def _file(self) -> BinaryIO:
        return self._path().open("rb")

    def read(self, offset: int, size: int) -> bytes:
        """Read a byte range of the file."""
        try:
            return os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise DataError(str(error.strerror)) from None

    def prefetch(self, offset: int, size: int) -> None:
        """Do nothing: the kernel reads ahead."""

    def discard(self, offset: int, size: int) -> bool:
        """Return False: a local file has no cached copies."""
        return False

    def close(self) -> None:
        """Close the file."""
        if file := self.__dict__.pop("_file", None):
            file.close()


class BlockCache:
    """Blocks of objects in a folder, with least-recently-used eviction; can be shared by processes.

    Args:
        store: the store with the objects.
        folder: folder for the blocks.
        limit_bytes: approximate maximum size of the folder.
        block_bytes: block size.
    """

    def __init__(self, store: Store, folder: Path, limit_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        self.store = store
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.block_bytes = min(block_bytes, max(1 << 16, limit_bytes // SLACK))
        self._reserved = 0
        self._written = limit_bytes  # the first write checks the size of the existing cache
        self._lock = threading.Lock()
        self._under_way: dict[Path, Any] = {}
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def block(self, ref: BlobRef, number: int) -> bytes:
        """Return a block of an object.

        Raises:
            DataError: the object does not exist.
            NetworkError: the store is unreachable.
        """
        path = self.path(ref, number)
        num_bytes = min(self.block_bytes, ref.num_bytes - number * self.block_bytes)
        if (data := _read(path, num_bytes)) is not None:
            return data
        with self._lock:
            future = self._under_way.get(path)
        if future:
            block: bytes = future.result()
            return block
        # another thread may have written the block in the meantime
        data = _read(path, num_bytes)
        return self._fetch(ref, number, path) if data is None else data

    def prefetch(self, ref: BlobRef, number: int) -> None:
        """Fetch a block in the background unless it is cached."""
        path = self.path(ref, number)
        with self._lock:
            if path not in self._under_way and not path.exists():
                future = self._executor().submit(self._fetch, ref, number, path)
                self._under_way[path] = future
                future.add_done_callback(lambda _: self._under_way.pop(path, None))

    def discard(self, ref: BlobRef, number: int) -> bool:
        """Remove a possibly damaged block; True if it existed."""
        path = self.path(ref, number)
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed

    def path(self, ref: BlobRef, number: int) -> Path:
        """Return the path of a block's file."""
        return self.folder / ref.sha256 / f"{self.block_bytes}-{number}"

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None or self._threads[0] != os.getpid():  # threads do not survive a fork
            self._threads = os.getpid(), ThreadPoolExecutor(MAX_CONCURRENT_FETCHES, thread_name_prefix="mm1-blocks")
        return self._threads[1]

    def _fetch(self, ref: BlobRef, number: int, path: Path) -> bytes:
        start = number * self.block_bytes
        data = self.store.read_range(blob_key(ref), start, min(self.block_bytes, ref.num_bytes - start))
        with self._room(len(data)):
            path.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        return data

    @contextmanager
    def _room(self, num_bytes: int) -> Iterator[None]:
        """Reserve room for a block until it is written, so that concurrent threads do not use the same room."""
        with self._lock:
            self._reserved += num_bytes
        try:
            self._make_room(num_bytes)
            yield
        finally:
            with self._lock:
                self._reserved -= num_bytes

    def _make_room(self, num_bytes: int) -> None:
        with self._lock:
            self._written += num_bytes
            if self._written < self.limit_bytes // SLACK:
                return
            self._written = 0
            reserved = self._reserved
        blocks = []
        for path in self.folder.glob("*/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # removed by another process
                continue
            blocks.append((stat.st_mtime, stat.st_size, path))
        excess = sum(size for _, size, _ in blocks) + reserved - (self.limit_bytes - 2 * self.limit_bytes // SLACK)
        for _, size, path in sorted(blocks):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _read(path: Path, num_bytes: int) -> bytes | None:
    """Return a cached block; None if it is not cached, or cut by a crash of the machine."""
    try:
        data = path.read_bytes()
        os.utime(path)  # mark as recently used
    except FileNotFoundError:
        return None
    return data if len(data) == num_bytes else None


class CachedBytes:
    """A tar in a store's object, read by ranges through a cache.

    Args:
        cache: the cache for its blocks.
        ref: the object.
    """

    def __init__(self, cache: BlockCache, ref: BlobRef) -> None:
        self.cache = cache
        self.ref = ref

    def read(self, offset: int, size: int) -> bytes:
        """Read a byte range through the cache."""
        blocks = self._blocks(offset, size)
        for number in blocks[1:]:
            self.cache.prefetch(self.ref, number)
        data = b"".join(self.cache.block(self.ref, number) for number in blocks)
        start = offset - blocks.start * self.cache.block_bytes
        return data[start : start + size]

    def prefetch(self, offset: int, size: int) -> None:
        """Prefetch the blocks of a byte range."""
        for number in self._blocks(offset, size):
            self.cache.prefetch(self.ref, number)

    def discard(self, offset: int, size: int) -> bool:
        """Remove the cached blocks of a byte range."""
        return any([self.cache.discard(self.ref, number) for number in self._blocks(offset, size)])

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _blocks(self, offset: int, size: int) -> range:
        last = min(offset + size, self.ref.num_bytes) - 1
        return range(offset // self.cache.block_bytes, max(offset, last) // self.cache.block_bytes + 1)
