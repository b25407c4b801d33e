"""Local copies of a bucket's blobs.

Every copy is verified before it is handed out. A digest of a large file takes minutes, so the result is remembered in
``verified/<sha256>`` for as long as the file is the same (inode, size, times) and the machine runs: after a crash, a file may
lack data that it had. A damaged copy is dropped and fetched again.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mm1.errors import CheckpointError, NetworkError
from mm1.store.base import BlobRef, blob_key, damaged, digest_of_file
from mm1.store.local import atomic_path
from mm1.store.private import private_folder

log = logging.getLogger(__name__)

Fetch = Callable[[BlobRef, Path], None]
"""Writes a blob's content to a path."""


class BlobCache:
    """Verified copies of blobs in a folder that only this user can enter; can be shared by processes.

    Args:
        folder: the folder, created at the first use.
        uri: address of the store, for messages.
        fetch: downloads a blob.
    """

    def __init__(self, folder: Path, uri: str, fetch: Fetch) -> None:
        self.folder = folder
        self.uri = uri
        self._fetch = fetch
        self._checked = False
        self._verified: dict[Path, str] = {}

    def subfolder(self, name: str) -> Path:
        """Return a folder inside the cache, after creating or checking the cache.

        Raises:
            ConfigurationError: it is not this user's alone.
        """
        if not self._checked:
            private_folder(self.folder)
            self._checked = True
        return self.folder / name

    def path(self, ref: BlobRef) -> Path:
        """Return the verified copy of a blob, fetched if there is none.

        Raises:
            ConfigurationError: the folder is not this user's alone.
            DataError: the blob does not exist.
            CheckpointError: the blob is damaged in the store.
            NetworkError: the store is unreachable, or the transfer was damaged.
        """
        path = self.subfolder(blob_key(ref))
        if self._is_verified(path, ref):
            return path
        with _locked(path.parent):
            if self._is_verified(path, ref):  # by another process
                return path
            if path.is_file():
                if digest_of_file(path) == ref:
                    return self._remember(path, ref)
                log.warning("the local copy %s is damaged: fetching it again from %s", path, self.uri)
            self._download(ref, path)
            return self._remember(path, ref)

    def _download(self, ref: BlobRef, path: Path) -> None:
        with atomic_path(path) as temporary:
            digests = []
            for _ in range(2):
                self._fetch(ref, temporary)
                digests.append(digest_of_file(temporary))
                if digests[-1] == ref:
                    return
            if digests[0] != digests[1]:
                raise NetworkError(f"{self.uri}/{blob_key(ref)} was damaged in transit, twice")
            raise CheckpointError(damaged(self.uri, ref))

    def _is_verified(self, path: Path, ref: BlobRef) -> bool:
        try:
            state = _state(path)
            if self._verified.get(path) == state:
                return True
            if self._stamp(ref).read_text() != state:
                return False
        except (OSError, UnicodeDecodeError):
            return False
        self._verified[path] = state
        return True

    def _remember(self, path: Path, ref: BlobRef) -> Path:
        self._verified[path] = _state(path)
        with atomic_path(self._stamp(ref)) as temporary:
            temporary.write_text(self._verified[path])
        return path

    def _stamp(self, ref: BlobRef) -> Path:
        return self.folder / "verified" / ref.sha256


def _state(path: Path) -> str:
    state = path.lstat()
    return f"{_boot()} {state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


@cache
def _boot() -> str:
    """Return an ID of the time since this machine started; of this process where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.urandom(16).hex()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, so that processes of one machine do not fetch the same blob at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
