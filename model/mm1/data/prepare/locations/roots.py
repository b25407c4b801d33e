"""Locations of a source's raw files: a file, a folder, or a prefix in a bucket.

A root lists its files, names what it leaves out, and provides the files as local files. Files that they refer to (images) are
read on demand. A name leads to nothing outside the root; a link that lies in a folder of this machine is followed, because
only the folder's owner can make it. An object's key never becomes a local path.
"""

from __future__ import annotations

import builtins
import errno
import glob
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from mm1.config.values import quoted
from mm1.data.prepare.locations.names import LeftOut, inside, is_hidden, is_key, is_plain, shown, true_name
from mm1.data.prepare.locations.patterns import check_matches, literal_prefix, matches, select
from mm1.data.prepare.locations.walk import LocalFile, walk
from mm1.errors import ConfigurationError, DataError, NetworkError
from mm1.manifests import RawFile
from mm1.store.base import digest_of

__all__ = ["BucketRoot", "LeftOut", "LocalRoot", "RawRoot", "inside", "shown"]

MAX_READ_BYTES = 256_000_000
"""Largest file that a row may refer to."""
_REFUSED = {errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOENT, errno.ENOTDIR}
"""Errors of a name that no file has."""
_MISREAD = re.compile(r"[*?\[\]{}\ud800-\udfff]")
"""Characters in paths that libraries misread."""
_SUFFIXES = re.compile(r"(\.[A-Za-z0-9]{1,10}){1,2}$")


class RawRoot(ABC):
    """Raw files under one address."""

    address: str
    is_file = False
    """Whether the address is a single file."""

    @abstractmethod
    def list(self) -> builtins.list[RawFile]:
        """List all files by name, without those that are left out."""

    def left_out(self) -> builtins.list[LeftOut]:
        """List what lies under the address and is not a raw file, by name, with the reason; a hidden folder is one entry."""
        return []

    @abstractmethod
    def local(self, name: str) -> Path:
        """Return the path of a file on the local disk. Raises DataError for a name that points outside the root."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it does not exist. Raises DataError for a name that points outside the root."""

    @abstractmethod
    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of a listed file, fewer at its end."""

    def is_local(self, name: str) -> bool:
        """Whether a listed file is on this machine, so that reading all of it costs little."""
        return True

    def location(self, name: str) -> str:
        """Return the full address of a file; equal for the same file of two roots."""
        return f"{self.address}/{name}"


class LocalRoot(RawRoot):
    """A local file or folder.

    Args:
        path: the file or folder.
        names: only these files and folders below it; patterns are allowed.
        work: folder for links to files whose paths libraries misread [default: a temporary folder].

    Raises:
        ConfigurationError: nothing has one of the names.
    """

    def __init__(self, path: Path, names: Sequence[str] = (), work: Path | None = None) -> None:
        self.address = shown(str(path))
        self.is_file = path.is_file()
        self.path = path
        self.work = work
        self.folder = (path.parent if self.is_file else path).resolve()
        self._selected = [self.path.name] if self.is_file else self._select(names) if names else [""]

    def _select(self, names: Sequence[str]) -> builtins.list[str]:
        """Return the true names that match, sorted."""
        matches: set[str] = set()
        missing = []
        for name in names:
            selected = [*self._matches(name)]
            matches.update(selected)
            missing += [] if selected else [name]
        check_matches(self.address, missing)
        return sorted(matches)

    def _matches(self, name: str) -> Iterator[str]:
        if os.path.lexists(os.path.join(self.folder, name)):  # noqa: PTH118
            yield name
        elif "**" in name.split("/"):
            items = (item.name for item in walk(str(self.folder)) if isinstance(item, LocalFile))
            yield from (true for item in items if matches((true := true_name(item)).split("/"), name.split("/")))
        elif glob.has_magic(name):
            yield from glob.glob(name, root_dir=self.folder)  # noqa: PTH207 - Path.glob cannot escape, and sees hidden files

    @cached_property
    def _files(self) -> tuple[builtins.list[RawFile], builtins.list[LeftOut]]:
        items = {item.name: item for name in self._selected for item in walk(str(self.folder), name)}
        files = [
            RawFile(name=name, num_bytes=item.status.st_size, version=f"{item.status.st_mtime_ns}")
            for name, item in sorted(items.items())
            if isinstance(item, LocalFile)
        ]
        return files, [item for _, item in sorted(items.items()) if isinstance(item, LeftOut)]

    def list(self) -> builtins.list[RawFile]:
        """List all files by name, without those that are left out."""
        return self._files[0]

    def left_out(self) -> builtins.list[LeftOut]:
        """List hidden files, broken links, loops, and what is not a regular file."""
        return self._files[1]

    def local(self, name: str) -> Path:
        """Return the path of a file: its own, or that of a link if libraries would misread its own.

        pyarrow opens no path that is not UTF-8, and DuckDB takes ``*``, ``?`` and ``[`` for a pattern.

        Raises:
            DataError: there is no such file, or it is not a regular file.
        """
        path = self._path(true_name(name))
        if not _is_file(path):
            raise DataError(f"{self.location(name)} is not a file any more; list the source again")
        return self._link(path) if _MISREAD.search(str(path)) else path

    def _link(self, path: Path) -> Path:
        link = (self.work or Path(self._temporary.name)) / _local_name(os.fsencode(path), path.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(path)
        return link

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="mm1-names-")

    def _path(self, name: str) -> Path:
        if not is_plain(name):
            raise DataError(f"{quoted(shown(name))} points outside {self.address}")
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """Read a small file, named in shown form or as it is; None if it does not exist."""
        data = _content(self._path(true_name(name)))
        return _content(self._path(name)) if data is None and "\\" in name else data

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of a file."""
        with self.local(name).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def location(self, name: str) -> str:
        """Return the path of a file, in shown form."""
        return shown(str(self.folder / true_name(name)))


def _content(path: Path) -> bytes | None:
    """Return the content of a regular file; None if no file has the name, or the system refuses such names."""
    try:
        if not _is_file(path):
            return None
        if (num_bytes := path.stat().st_size) > MAX_READ_BYTES:
            raise DataError(f"{quoted(shown(path.name))} has {num_bytes:,} bytes; a row may refer to {MAX_READ_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise DataError(f"{quoted(shown(path.name))}: permission denied; check its owner and mode") from None
        raise


def _is_file(path: Path) -> bool:
    """Whether a regular file has the name; False also for names that the system refuses."""
    try:
        return path.is_file()
    except UnicodeEncodeError:
        return False
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise


class BucketRoot(RawRoot):
    """A prefix in a bucket, or a single object.

    Args:
        address: ``s3://bucket/prefix``.
        work: folder for downloaded files. Their names are digests, so no key leads outside.
        names: only these objects and prefixes below the address; patterns are allowed.

    Raises:
        ConfigurationError: there is no such object or prefix.
    """

    def __init__(self, address: str, work: Path, names: Sequence[str] = ()) -> None:
        from mm1.store.s3 import S3Store  # importing the client takes 0.2 s

        self.address = address.rstrip("/")
        self.work = work
        self._store = S3Store(self.address)
        if self._store.prefix and not is_key(self._store.prefix):
            raise ConfigurationError(f"expected a prefix without '//', '.' and '..', got {quoted(address)}")
        self._is_complete = not names
        objects = self._store.objects(literal_prefix(names))
        if names:
            objects = select(self.address, objects, names)
        if not objects:
            parent, _, name = self.address.rpartition("/")
            if parent.count("/") >= 2 and parent != "s3:/":
                self._store = S3Store(parent)
                objects = [entry for entry in self._store.objects(name) if entry[0] == name]
                self.is_file, self._is_complete = bool(objects), False
        if not objects:
            raise ConfigurationError(f"no such object or prefix: {address}; check the address")
        self._objects = {key: (size, tag) for key, size, tag in objects}

    def list(self) -> builtins.list[RawFile]:
        """List all objects by name, without those that are left out."""
        return [
            RawFile(name=shown(key), num_bytes=size, version=tag)
            for key, (size, tag) in sorted(self._objects.items())
            if is_key(key) and (self.is_file or not is_hidden(key))
        ]

    def left_out(self) -> builtins.list[LeftOut]:
        """List hidden objects, and those whose key is not a relative path; their key is not used for anything."""
        entries: dict[str, LeftOut] = {}
        for key, (size, _) in sorted(self._objects.items()):
            if not is_key(key):
                entries[key] = LeftOut(shown(key), size, "unusable object key")
            elif is_hidden(key) and not self.is_file:
                pieces = key.split("/")
                last = next(number for number, piece in enumerate(pieces) if piece.startswith("."))
                name, reason = "/".join(pieces[: last + 1]), "hidden folder" if pieces[last + 1 :] else "hidden file"
                previous = entries.get(name, LeftOut(shown(name), 0, reason)).num_bytes
                entries[name] = LeftOut(shown(name), previous + size, reason)
        return [entry for _, entry in sorted(entries.items())]

    def local(self, name: str) -> Path:
        """Download an object, unless it was downloaded before.

        Raises:
            DataError: there is no such object.
            NetworkError: it is not the object that was listed.
        """
        key = true_name(name)
        if key not in self._objects or not is_key(key):
            raise DataError(f"{self.location(name)} does not exist any more; list the source again")
        size, tag = self._objects[key]
        path = self.work / _local_name(f"{self._store.uri}/{key} {tag}".encode(), key)
        if not path.is_file():
            self._store.download(key, path)
        if path.stat().st_size != size:
            path.unlink(missing_ok=True)
            raise NetworkError(f"{self.location(name)} has changed since it was listed, or its download was cut; run again")
        return path

    def read(self, name: str) -> bytes | None:
        """Read a small object, named in shown form or as it is; None if it does not exist."""
        for key in dict.fromkeys((true_name(name), name)):
            if not is_plain(key):
                raise DataError(f"{quoted(shown(name))} points outside {self.address}")
            if not is_key(key) or (self._is_complete and key not in self._objects):
                continue
            if key in self._objects and (num_bytes := self._objects[key][0]) > MAX_READ_BYTES:
                raise DataError(f"{quoted(shown(name))} has {num_bytes:,} bytes; a row may refer to {MAX_READ_BYTES:,}")
            if key in self._objects or self._store.exists(key):
                return self._store.read(key)
        return None

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of an object."""
        return self._store.read_range(true_name(name), start, size)

    def is_local(self, name: str) -> bool:
        """Return False: an object is downloaded first."""
        return False

    def location(self, name: str) -> str:
        """Return the address of an object, in shown form."""
        return f"{self._store.uri}/{name}"


def _local_name(identity: bytes, name: str) -> str:
    """Return a name for a local file: a digest, with the suffixes of the name, by which readers choose."""
    suffixes = _SUFFIXES.search(name)
    return digest_of(identity)[:40] + (suffixes[0] if suffixes else "")
