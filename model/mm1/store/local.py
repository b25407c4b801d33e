"""A store in a folder (``file://``)."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mm1.config.values import quoted
from mm1.errors import ConfigurationError, DataError
from mm1.store.base import BlobRef, Store, blob_key
from mm1.store.scratch import last_change

SCRATCH = ".scratch"
_TEMPORARY = re.compile(r"\..+\.([a-z0-9_]{8}|part\.minio)|\.[a-z0-9_]{8}")
"""Names of :func:`atomic_path`, `tempfile` and the minio client."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``target`` that is synced and renamed to ``target`` if the block succeeds.

    If the block raises, nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # the umask decides
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def files_left(root: Path, scratch: Path, before: float) -> dict[str, Callable[[], object]]:
    """Find the temporary files below a folder, and the content of a scratch folder, that killed writers left.

    Args:
        root: the folder.
        scratch: the scratch folder in it.
        before: time of the last change, s since 1970; younger ones may still be written.

    Returns:
        Name relative to the folder -> function that removes it.
    """
    left: dict[str, Callable[[], object]] = {}
    for parent, folders, files in os.walk(root, onerror=_raise_unless_missing):
        if Path(parent) == scratch:
            folders.clear()
            continue
        for path in (Path(parent, name) for name in files if _TEMPORARY.fullmatch(name)):
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < before:
                    left[path.relative_to(root).as_posix()] = partial(_remove, path)
    for path in sorted(scratch.glob("*")):
        if last_change(path) < before:
            remove = (
                partial(shutil.rmtree, path, ignore_errors=True) if path.is_dir() else partial(path.unlink, missing_ok=True)
            )
            left[path.relative_to(root).as_posix()] = remove
    return left


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _raise_unless_missing(error: OSError) -> None:
    """Raise unless the folder is missing: an unreadable folder must not look empty, or `mm1 gc` would consider it unused."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        raise error


class LocalStore(Store):
    """Objects are files in a folder. Writes are renames, so readers see a complete object or none."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = f"file://{self.root}"

    def make(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            ConfigurationError: it cannot be created or is not writable.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"store {quoted(self.uri)} cannot be created: {error.strerror}; choose a different path"
            ) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise ConfigurationError(f"store {self.uri} is not writable: check its owner and mode, or choose another path")

    def _path(self, key: str) -> Path:
        return self.root / key

    def write(self, key: str, data: bytes) -> None:
        """Write a small object atomically."""
        with atomic_path(self._path(key)) as temporary:
            temporary.write_bytes(data)

    def write_file(self, key: str, path: Path) -> None:
        """Copy a file into the store atomically."""
        with atomic_path(self._path(key)) as temporary:
            shutil.copyfile(path, temporary)

    def take_file(self, key: str, path: Path) -> None:
        """Move a file into the store: a rename if both are on the same disk."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.write_file(key, path)

    def scratch(self) -> Path:
        """Return the store's own scratch folder, which is never listed."""
        return self.root / SCRATCH

    def now(self) -> float:
        """Return the time of the file system, which may be another machine's."""
        try:
            with tempfile.TemporaryFile(dir=self.root) as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:  # no folder, or not writable
            return time.time()

    def leftovers(self, min_age_s: float) -> dict[str, Callable[[], object]]:
        """Find temporary files of killed writers anywhere in the store, and their folders in its scratch folder."""
        return files_left(self.root, self.scratch(), self.now() - min_age_s)

    def read(self, key: str) -> bytes:
        """Read an object."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{self.uri}/{key} does not exist") from None

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Read a byte range of an object."""
        try:
            with self._path(key).open("rb") as file:
                return os.pread(file.fileno(), size, offset)
        except FileNotFoundError:
            raise DataError(f"{self.uri}/{key} does not exist") from None

    def size(self, key: str) -> int | None:
        """Return the size of an object; None if it does not exist."""
        try:
            state = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def modified(self, key: str) -> float:
        """Return the modification time of an object."""
        try:
            return self._path(key).stat().st_mtime
        except FileNotFoundError:
            raise DataError(f"{self.uri}/{key} does not exist") from None

    def list(self, prefix: str) -> Iterator[str]:
        """List the objects with a prefix, sorted."""
        folder = self._path(prefix) if prefix.endswith("/") or not prefix else self._path(prefix).parent
        paths = (Path(parent, name) for parent, _, files in os.walk(folder, onerror=_raise_unless_missing) for name in files)
        names = (path.relative_to(self.root).as_posix() for path in paths if not path.name.startswith(".") and path.is_file())
        yield from sorted(name for name in names if name.startswith(prefix) and not name.startswith(f"{SCRATCH}/"))

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        self._path(key).unlink(missing_ok=True)

    def local_path(self, ref: BlobRef) -> Path:
        """Return the blob's own file; no copy is made."""
        path = self._path(blob_key(ref))
        if not path.is_file():
            raise DataError(f"{self.uri}/{blob_key(ref)} does not exist")
        return path
