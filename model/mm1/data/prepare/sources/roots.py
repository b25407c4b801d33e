"""Where the raw files of a source lie: a file, a folder, or a prefix of a bucket.

A root lists its files and gives them as local files; what they name beside them (images) is read on demand. Nothing outside a
root can be reached through it.
"""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawFile


class RawRoot(ABC):
    """Raw files under one address."""

    address: str
    is_file = False
    """Whether the address is that of one file."""

    @abstractmethod
    def list(self) -> list[RawFile]:
        """All files, by name; hidden ones are left out."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """A file on this machine."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Content of a small file; None when there is none. Raises DataError for a name that leads out of the root."""


class LocalRoot(RawRoot):
    """A file or a folder of this machine.

    Args:
        path: it.
    """

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.is_file = path.is_file()
        self.path = path
        self.folder = (path.parent if self.is_file else path).resolve()

    def list(self) -> list[RawFile]:
        """See :meth:`RawRoot.list`."""
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
        """See :meth:`RawRoot.local`."""
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """See :meth:`RawRoot.read`."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):  # a link may lead anywhere
            raise DataError(f"{name[:100]} climbs out of {self.folder}")
        return path.read_bytes() if path.is_file() else None


class BucketRoot(RawRoot):
    """A prefix of a bucket, or one object in it.

    Args:
        address: ``s3://bucket/prefix``.
        work: folder that files are downloaded into.
    """

    def __init__(self, address: str, work: Path) -> None:
        from mm1.store.s3 import S3Store  # the client costs 0.2 s: only where a bucket is used

        self.address = address.rstrip("/")
        self.work = work
        self._store = S3Store(self.address)
        self._files = self._store.objects()
        if not self._files:
            parent, _, name = self.address.rpartition("/")
            if parent.count("/") >= 2 and parent != "s3:/":
                self._store = S3Store(parent)
                self._files = [found for found in self._store.objects(name) if found[0] == name]
                self.is_file = bool(self._files)
        if not self._files:
            raise ConfigurationError(f"no such file or folder: {address} (the bucket has no object of that name or below it)")

    def list(self) -> list[RawFile]:
        """See :meth:`RawRoot.list`."""
        return [
            RawFile(name=name, num_bytes=size, version=tag)
            for name, size, tag in self._files
            if not any(piece.startswith(".") for piece in name.split("/"))
        ]

    def local(self, name: str) -> Path:
        """See :meth:`RawRoot.local`; downloads it once."""
        path = self.work / name
        if not path.is_file():
            self._store.download(name, path)
        return path

    def read(self, name: str) -> bytes | None:
        """See :meth:`RawRoot.read`."""
        return self._store.read(name) if self._store.exists(name) else None


def inside(folder: str, name: str, root: str) -> str:
    """A name relative to a folder of a root, made plain.

    Raises:
        DataError: it is absolute or climbs out of the root.
    """
    plain = posixpath.normpath(posixpath.join(folder, name))
    if PurePosixPath(name).is_absolute() or plain.startswith("../") or plain == "..":
        raise DataError(f"{name[:100]} climbs out of {root}")
    return plain
