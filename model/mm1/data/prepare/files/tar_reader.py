"""Reader of other people's tars: v7, ustar, GNU and PAX headers, several archives in one file.

:mod:`tarfile` takes 20 microseconds for a header, this reader about two. It yields the members in order and reads a content
only on request, so that neither the size of the file nor of a member decides about memory. The tests compare it with tarfile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from zlib import adler32

from mm1.data.prepare.files.compressed import DAMAGE
from mm1.data.prepare.locations.names import shown

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 20
"""Maximum size of a long name or of PAX records."""
_ZEROS = bytes(BLOCK)
_CHUNK = 1 << 20
_ADLER = 65521
_MAX_SIZE = 1 << 62
_KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "symlink", b"5": "directory", b"S": "sparse"}
_KINDS |= {b"3": "device", b"4": "device", b"6": "pipe"}
_WITHOUT_CONTENT = {"link", "symlink", "directory", "device", "pipe"}


class TarDamage(Exception):
    """A tar that is damaged or truncated; the message says how."""


class Member(NamedTuple):
    """A member of a tar."""

    name: str
    """In shown form (:func:`~.names.shown`): bytes that are not UTF-8 are escaped."""
    kind: str
    """file, link (hard), symlink, sparse, directory, device, pipe, other, or trailing (bytes behind the last archive)."""
    start: int
    """Offset of its first header."""
    offset: int
    """Offset of its content."""
    size: int
    """Size of its content in the archive, in bytes."""
    target: str
    """Target of a link, in shown form."""
    archive: int
    """Number of the archive in the file, from 0."""


class TarReader:
    """The members of a tar, or of a range of one.

    Args:
        stream: the decompressed tar, at the beginning of the range.
        start: offset of the range; that of a member's first header.
        stop: end of the range; None = the end of the file, where an end mark is required.
        seekable: whether contents are skipped by seeking.

    Attributes:
        last: name of the last member, for messages.
        has_defaults: whether a global PAX header sets fields of the members behind it.
    """

    def __init__(self, stream: BinaryIO, start: int = 0, stop: int | None = None, *, seekable: bool = False) -> None:
        self.last = ""
        self.has_defaults = False
        self._stream = stream
        self._position = start
        self._stop = stop
        self._seekable = seekable
        self._archive = 0
        self._defaults: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        """Yield the members; each is to be read before the next one is requested.

        Raises:
            TarDamage: damaged, or truncated.
        """
        try:
            while self._stop is None or self._position < self._stop:
                header = self._take(BLOCK, "no end mark" if self._position else "the file is empty")
                if header == _ZEROS:
                    trailing = self._after_end_mark()
                    if trailing is None:
                        return
                    if isinstance(trailing, Member):
                        yield trailing
                        return
                    header = trailing
                    self._defaults = {}
                member = self._member(header)
                if member is not None:
                    self.last = member.name
                    yield member
                    self._skip_to(member.offset + member.size + -member.size % BLOCK)
        except DAMAGE as error:
            raise TarDamage(str(error)) from None

    def read(self, member: Member) -> bytes:
        """Read the content of the member that was yielded last.

        Raises:
            TarDamage: damaged, or truncated.
        """
        try:
            data = self._stream.read(member.size)
        except DAMAGE as error:
            raise TarDamage(str(error)) from None
        self._position += len(data)
        if len(data) < member.size:
            raise TarDamage("truncated")
        return data

    @property
    def position(self) -> int:
        """Offset of the next byte."""
        return self._position

    # -- the stream -----------------------------------------------------------------------------------------------------

    def _take(self, size: int, missing: str = "truncated") -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        if len(data) < size:
            raise TarDamage("truncated" if data else missing)
        return data

    def _skip_to(self, position: int) -> None:
        if self._seekable:
            if position > self._position + BLOCK:  # the last block is read, since seeking beyond the end raises nothing
                self._stream.seek(position - BLOCK)
                self._position = position - BLOCK
            if position > self._position:
                self._take(position - self._position)
            return
        while self._position < position:
            self._take(min(position - self._position, _CHUNK))

    def _after_end_mark(self) -> bytes | Member | None:
        """Look at what follows an end mark: another archive (return its first header), other bytes, or nothing (None).

        Raises:
            TarDamage: members follow behind bytes that are no archive; zeros have replaced a part of the file.
        """
        end = self._position
        junk = 0
        while (self._stop is None or self._position < self._stop) and (block := self._stream.read(BLOCK)):
            self._position += len(block)
            if junk or block.count(0) < len(block):
                if len(block) == BLOCK and _has_checksum(block):
                    if junk:
                        raise TarDamage(f"zeros at byte {end - BLOCK:,}, and further members behind them")
                    self._archive += 1
                    return block
                junk = junk or self._position - len(block)
        return Member("", "trailing", junk, junk, self._position - junk, "", self._archive) if junk else None

    # -- headers --------------------------------------------------------------------------------------------------------

    def _member(self, header: bytes) -> Member | None:
        """Parse a header and the extended headers before it; None for a global header."""
        start = self._position - BLOCK
        name = target = b""
        records: dict[str, bytes] = {}
        while True:
            if not _has_checksum(header):
                raise TarDamage("bad checksum in a header" if self.last or start else "not a tar")
            kind, size = header[156:157], _number(header[124:136])
            if kind not in b"LKxXg":
                break
            extended = self._extended(size)
            if kind == b"L":
                name = extended.partition(b"\0")[0]
            elif kind == b"K":
                target = extended.partition(b"\0")[0]
            elif kind == b"g":
                self._defaults = self._defaults | _records(extended)
                self.has_defaults = self.has_defaults or bool(self._defaults.keys() - {"comment"})
                if not (name or target or records):
                    return None
            else:
                records = records | _records(extended)
            header = self._take(BLOCK)
            if header == _ZEROS:
                raise TarDamage("a header is missing")
        return self._build(header, kind, size, start, name, target, self._defaults | records if self._defaults else records)

    def _build(
        self, header: bytes, kind: bytes, size: int, start: int, name: bytes, target: bytes, records: dict[str, bytes]
    ) -> Member:
        if not name:
            name = header[:100].partition(b"\0")[0]
            if header[257:263] == b"ustar\0" and header[345]:
                end = 476 if header[508:] == b"tar\0" else 500  # star stores times behind a shorter prefix
                name = header[345:end].partition(b"\0")[0] + b"/" + name
        meaning = _KINDS.get(kind, "other")
        if kind == b"\0" and name.endswith(b"/"):
            meaning = "directory"  # v7 has no type of its own for it
        if meaning == "link" or meaning == "symlink":
            target = target or header[157:257].partition(b"\0")[0]
        if records:
            name, target = records.get("path", name), records.get("linkpath", target)
            if "size" in records:
                size = _decimal(records["size"])
            if any(field.startswith("GNU.sparse.") for field in records):
                name, meaning = records.get("GNU.sparse.name", name), "sparse"
        if kind == b"S" and header[482]:
            while self._take(BLOCK)[504]:  # further maps of a sparse member
                pass
        if meaning in _WITHOUT_CONTENT:
            size = 0
        return Member(_text(name), meaning, start, self._position, size, _text(target) if target else "", self._archive)

    def _extended(self, size: int) -> bytes:
        if size > MAX_EXTENDED_BYTES:
            raise TarDamage(f"an extended header of {size:,} bytes")
        return self._take(size + -size % BLOCK)[:size]


def _has_checksum(header: bytes) -> bool:
    # Adler-32's lower half is 1 + the sum of all bytes, modulo 65521: 20 times faster than sum().
    try:
        stored = _number(header[148:156])
    except TarDamage:
        return False
    rest = 256 - sum(header[148:156])
    if ((adler32(header) & 0xFFFF) - 1 + rest - stored) % _ADLER == 0:
        return stored > 0
    return rest + sum(byte - 256 if byte > 127 else byte for byte in header) == stored  # old tars summed signed bytes


def _number(field: bytes) -> int:
    """Parse a number in octal digits or in base 256."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise TarDamage("a negative or excessive number in a header")
        return min(int.from_bytes(field[1:], "big"), _MAX_SIZE)
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        number = int(digits, 8)
    except ValueError:
        raise TarDamage("a header without a number where one is expected") from None
    if number < 0:
        raise TarDamage("a negative number in a header")
    return number


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise TarDamage("a PAX size that is not a number")
    return int(value)


def _records(data: bytes) -> dict[str, bytes]:
    """Parse PAX records: ``<length> <field>=<value>``, each with a line break."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        length, separator, _ = data[position : position + 12].partition(b" ")
        end = position + int(length) if separator and length.isdigit() else 0
        if end <= position + len(length) or end > len(data):
            raise TarDamage("damaged PAX records")
        field, equals, value = data[position + len(length) + 1 : end - 1].partition(b"=")
        if not equals:
            raise TarDamage("damaged PAX records")
        records[field.decode("utf-8", "replace")] = value
        position = end
    return records


def _text(name: bytes) -> str:
    return shown(name.decode("utf-8", "surrogateescape"))
