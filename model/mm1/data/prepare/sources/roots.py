"""Locations of a source's raw files: a file, a folder, or a prefix in a bucket.

A root lists its files and provides them as local files. Files that they refer to (images) are read on demand. Nothing outside
the root is accessible through it.
"""

from __future__ import annotations

import builtins
import posixpath
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawFile


class LeftOut(NamedTuple):
    """Something in a source's folder or archive that is not read."""

    name: str
    num_bytes: int
    reason: str
    """Short, the same for all of its kind: ``hidden file``."""


class RawRoot(ABC):
    """Raw files under one address."""

    address: str
    is_file = False
    """Whether the address is a single file."""

    @abstractmethod
    def list(self) -> list[RawFile]:
        """List all files by name, without hidden ones."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """Return the path of a file on the local disk."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it does not exist. Raises DataError for a name that points outside the root."""

    @abstractmethod
    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of a listed file, fewer at its end."""

    def left_out(self) -> builtins.list[LeftOut]:
        """List what is there but not listed by :meth:`list`, with the reason."""
        return []


class LocalRoot(RawRoot):
    """A local file or folder.

    Args:
        path: the file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.is_file = path.is_file()
        self.path = path
        self.folder = (path.parent if self.is_file else path).resolve()

    def list(self) -> list[RawFile]:
        """List all files by name, without hidden ones."""
        if self.is_file:
            paths = [self.folder / self.path.name]
        else:
            paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = {path.relative_to(self.folder).as_posix(): path.stat() for path in paths}
        return [
            RawFile(name=name, num_bytes=stat.st_size, version=f"{stat.st_mtime_ns}")
            for name, stat in sorted(names.items())
            if not any(piece.startswith(".") for piece in name.split("/"))
        ]

    def local(self, name: str) -> Path:
        """Return the path of a file."""
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it does not exist."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):  # symbolic links may point anywhere
            raise DataError(f"{name[:100]} points outside {self.folder}")
        return path.read_bytes() if path.is_file() else None

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of a file."""
        with self.local(name).open("rb") as file:
            file.seek(start)
            return file.read(size)


class BucketRoot(RawRoot):
    """A prefix in a bucket, or a single object.

    Args:
        address: ``s3://bucket/prefix``.
        work: folder for downloaded files.
    """

    def __init__(self, address: str, work: Path) -> None:
        from mm1.store.s3 import S3Store  # importing the client takes 0.2 s

        self.address = address.rstrip("/")
        self.work = work
        self._store = S3Store(self.address)
        self._files = self._store.objects()
        if not self._files:
            parent, _, name = self.address.rpartition("/")
            if parent.count("/") >= 2 and parent != "s3:/":
                self._store = S3Store(parent)
                self._files = [entry for entry in self._store.objects(name) if entry[0] == name]
                self.is_file = bool(self._files)
        if not self._files:
            raise ConfigurationError(f"no such object or prefix: {address}; check the address")

    def list(self) -> list[RawFile]:
        """List all objects by name, without hidden ones."""
        return [
            RawFile(name=name, num_bytes=size, version=tag)
            for name, size, tag in self._files
            if not any(piece.startswith(".") for piece in name.split("/"))
        ]

    def local(self, name: str) -> Path:
        """Download an object, unless it was downloaded before."""
        path = self.work / name
        if not path.is_file():
            self._store.download(name, path)
        return path

    def read(self, name: str) -> bytes | None:
        """Read a small object; None if it does not exist."""
        return self._store.read(name) if self._store.exists(name) else None

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of an object."""
        return self._store.read_range(name, start, size)


def inside(folder: str, name: str, root: str) -> str:
    """Resolve a name relative to a folder in a root.

    Raises:
        DataError: the name is absolute or points outside the root.
    """
    plain = posixpath.normpath(posixpath.join(folder, name))
    if PurePosixPath(name).is_absolute() or plain.startswith("../") or plain == "..":
        raise DataError(f"{name[:100]} points outside {root}")
    return plain
