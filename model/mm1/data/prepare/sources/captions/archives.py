"""Members of tars and zips that may be part of a caption pair, with their contents; the others are left out with a reason."""

from __future__ import annotations

import lzma
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mm1.data.prepare.files.compressed import open_stream
from mm1.data.prepare.files.raw import OddRow, RawInput
from mm1.data.prepare.files.tar_reader import Member, TarDamage, TarReader
from mm1.data.prepare.locations.names import shown
from mm1.data.prepare.locations.roots import LeftOut
from mm1.data.prepare.sources.captions.groups import too_large
from mm1.data.prepare.sources.captions.member_names import Endings, reason_to_skip, split_name
from mm1.errors import DataError

_MAX_LINKS = 8
_DAMAGED_MEMBER = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, ValueError)
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800


class Entry(NamedTuple):
    """A member of an archive that may be part of a pair."""

    group: tuple[int, str]
    """Number of the archive in the file, and key."""
    role: str
    ending: str
    content: bytes | OddRow


# -- tars -----------------------------------------------------------------------------------------------------------------


def tar_entries(file: RawInput) -> Iterator[Entry | LeftOut]:
    """Yield the members of a tar, or of a range of one.

    Raises:
        DataError: not a tar, a damaged or truncated one, or one with member names that point outside the archive.
    """
    endings = Endings(file.columns)
    reader = None
    try:
        with open_stream(file.path) as (stream, below):
            is_plain = stream is below
            if is_plain:
                stream.seek(file.file.start)
            elif file.file.start:
                raise DataError(f"{file.name}: a range of a compressed tar cannot be read")
            reader = TarReader(stream, file.file.start, file.file.stop, seekable=is_plain)
            links = _Links(file.path, file.max_row_bytes) if is_plain else None
            key = ""
            for member in reader:
                if not may_be_entry(member, key):
                    if reason := _reason(member):
                        yield LeftOut(file.origin(member.name or "end"), member.size, reason)
                    continue
                name = _inside(plain_name(member.name), file)
                key, ending = split_name(name)
                role = endings.role(ending)
                yield Entry((member.archive, key), role, ending, _content(reader, member, links, file) if role else b"")
                file.num_done = reader.position - file.file.start if is_plain else below.tell()
    except TarDamage as error:
        if str(error) == "the file is empty":
            raise DataError(f"{file.name}: the file is empty; delete it, or download it again") from None
        after = (reader.last if reader else "")[:100] or "its beginning"
        raise DataError(f"{file.name}: the tar is damaged or truncated after {after} ({error}); download it again") from None


def may_be_entry(member: Member, previous: str = "") -> bool:
    """Whether a member may be part of a pair, judged by its kind and name, and the key of the member before it."""
    return member.kind in ("file", "link", "symlink", "sparse") and not reason_to_skip(plain_name(member.name), previous)


def _reason(member: Member) -> str:
    """Return why a member is left out; empty for directories and the like, which have no content to lose."""
    if member.kind == "trailing":
        return "data after the end mark"
    if member.kind in ("directory", "device", "pipe"):
        return ""
    return reason_to_skip(member.name) or "special member"


def _content(reader: TarReader, member: Member, links: _Links | None, file: RawInput) -> bytes | OddRow:
    if member.kind == "sparse":
        return OddRow("sparse_member", f"{member.name[:100]} is a sparse file; create the tar without --sparse")
    if member.kind != "file":
        if links is None:
            return OddRow("link_in_compressed_tar", f"{member.name[:100]} is a link, which needs the tar to be decompressed")
        return links.read(member)
    if member.size > file.max_row_bytes:
        return too_large(member.name[:100], member.size, file.max_row_bytes)
    return reader.read(member)


def plain_name(name: str) -> str:
    """Return a member's name without a leading ``./``."""
    return name[2:] if name.startswith("./") else name


def _inside(name: str, file: RawInput) -> str:
    """Return a member's name.

    Raises:
        DataError: it points outside the archive.
    """
    if name[:1] == "/" or (".." in name and ".." in name.split("/")):
        raise DataError(f"{file.name}: the member {name[:100]!r} points outside the archive; recreate it with relative names")
    return name


class _Links:
    """Contents of links: those of the members that they name. The members are looked up only if there is a link."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._members: dict[str, list[Member]] | None = None

    def read(self, link: Member) -> bytes | OddRow:
        """Read the content of a link."""
        if self._members is None:
            self._members = self._look_up()
        member = link
        for _ in range(_MAX_LINKS):
            folder = posixpath.dirname(member.name) if member.kind == "symlink" else ""
            members = self._members.get(posixpath.normpath(posixpath.join(folder, member.target)), [])
            if member.kind == "link":  # to what was extracted before it
                position = member.start
                members = [each for each in members if each.start < position][-1:]
            if not members:
                return OddRow("link_outside", f"{link.name[:100]} is a link to something that is not in the archive")
            if len(members) > 1:
                return OddRow("duplicate_key", f"{link.name[:100]} is a link to a name that several members have")
            member = members[0]
            if member.kind == "file":
                return self._read(member)
        return OddRow("link_outside", f"{link.name[:100]} is a link without an end")

    def _read(self, member: Member) -> bytes | OddRow:
        if member.size > self._max_bytes:
            return too_large(member.name[:100], member.size, self._max_bytes)
        with self._path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def _look_up(self) -> dict[str, list[Member]]:
        members: dict[str, list[Member]] = {}
        # damage is raised again where the file is read
        with self._path.open("rb") as file, suppress(TarDamage):
            for member in TarReader(file, seekable=True):
                if member.kind in ("file", "link", "symlink"):
                    members.setdefault(posixpath.normpath(member.name), []).append(member)
        return members


# -- zips -----------------------------------------------------------------------------------------------------------------


def zip_entries(file: RawInput) -> Iterator[Entry | LeftOut]:
    """Yield the members of a zip.

    Raises:
        DataError: not a zip, a damaged or truncated one, or one with member names that point outside the archive.
    """
    endings = Endings(file.columns)
    try:
        archive = zipfile.ZipFile(file.path)
    except (*_DAMAGED_MEMBER, MemoryError) as error:
        raise DataError(f"{file.name}: the zip is damaged or truncated ({error}); download it again") from None
    with archive:
        key = ""
        for info in archive.infolist():
            name = _inside(plain_name(_zip_name(info)), file)
            if not name or name.endswith("/"):
                continue
            if reason := reason_to_skip(name, key):
                yield LeftOut(file.origin(name), info.file_size, reason)
                continue
            key, ending = split_name(name)
            role = endings.role(ending)
            yield Entry((0, key), role, ending, _zip_content(archive, info, file.max_row_bytes) if role else b"")
            file.num_done = info.header_offset + info.compress_size


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.filename.replace("\\", "/")
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()  # many tools write UTF-8 without saying so
    return shown(name)


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> bytes | OddRow:
    name = info.filename[:100]
    if info.flag_bits & _ENCRYPTED:
        return OddRow("encrypted_member", f"{name} is encrypted; create the zip without a password")
    if stat.S_ISLNK(info.external_attr >> 16):
        return OddRow("link_in_zip", f"{name} is a link; create the zip without links")
    try:
        with archive.open(info) as stream:
            data = stream.read(max_bytes + 1)  # the size in the directory may be false
    except _DAMAGED_MEMBER as error:
        return OddRow("damaged_member", f"{name} cannot be read ({type(error).__name__}: {error})")
    return too_large(name, info.file_size, max_bytes) if len(data) > max_bytes else data
