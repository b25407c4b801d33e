"""Rows of JSON files: one object per line, or a list of objects; plain, compressed, or in a zip archive.

Lines or a list is decided by the content, so names do not matter. The number of a row is its line, as an editor counts it, or
its position in the list, from 1. A row is limited before it is built, and what is wrong with one row costs that row only.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from mm1.data.prepare.files.compressed import DAMAGE, compression_of, open_stream
from mm1.data.prepare.files.json_list import ListSplitter
from mm1.data.prepare.files.line_ranges import CHUNK, count_lines, seek_line, until
from mm1.data.prepare.files.raw import OddRow, RawInput, row_too_large
from mm1.data.prepare.files.values import encodable
from mm1.data.prepare.locations.roots import LeftOut, RawRoot
from mm1.errors import DataError
from mm1.manifests import RawFile

MAX_VALUES = 1 << 21
"""Maximum number of values in a row; each takes about 100 bytes of memory, even an empty list."""
SUFFIXES = ("jsonl", "json", "ndjson")
"""Endings of the names of JSON files."""
_MAX_WHITE = 16 << 20
"""Maximum amount of white space before the first row for which lines and lists are told apart."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"
_ZIP = b"PK\x03\x04"

Row = dict[str, Any] | OddRow
Number = int | str


def json_rows(file: RawInput) -> Iterator[tuple[Any, Row]]:
    """Yield the numbers and objects of the rows of a file, or of its range; empty lines are skipped.

    Rows of a zip archive with several JSON files are numbered ``member:line``.

    Raises:
        DataError: the file is damaged, truncated, or not UTF-8.
    """
    if file.file.start or file.file.stop is not None:
        yield from _range_rows(file)
        return
    with file.path.open("rb") as below:
        is_zip = below.read(4) == _ZIP
    if is_zip:
        yield from _zip_rows(file)
        return
    with open_stream(file.path) as (stream, below):
        yield from _named(file, "", _rows(file, stream, below.tell))


def parse_row(line: bytes) -> Row:
    """Parse a JSON object.

    Numbers of any size are accepted, NaN, too; of two equal keys, the last one counts.
    """
    if len(line) > MAX_VALUES and sum(map(line.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return OddRow("row_too_large", f"more than {MAX_VALUES:,} values")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return OddRow("not_utf8", f"not UTF-8 ({error.reason} at byte {error.start + 1}); convert the file with iconv -t UTF-8")
    try:
        row = _parse(text)
    except RecursionError:
        return OddRow("nested_too_deep", "lists or objects nested too deep")
    except ValueError as error:
        return OddRow("not_json", f"not JSON ({error})")
    return row if isinstance(row, dict) else OddRow("not_an_object", "expected a JSON object")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer with more digits than Python converts
        return json.loads(text, parse_int=float)


class _Position(NamedTuple):
    """Position of a row, for messages about what comes after it."""

    kind: str
    number: int


def _named(file: RawInput, member: str, rows: Iterator[tuple[_Position, Row]]) -> Iterator[tuple[Any, Row]]:
    """Number rows, and name the file and the last row if a file cannot be read to its end."""
    last = _Position("line", 0)
    label = f"{file.name}:{member}" if member else file.name
    try:
        for last, row in rows:
            yield f"{member}:{last.number}" if member else last.number, row
    except _Ended as ended:
        raise DataError(f"{label}: {ended}") from None
    except (*DAMAGE, zipfile.BadZipFile) as error:
        raise DataError(f"{label}: truncated or damaged after {last.kind} {last.number} ({error}); fetch it again") from None


class _Ended(Exception):
    """A file that cannot be read any further."""


def _rows(file: RawInput, stream: BinaryIO, tell: Callable[[], int]) -> Iterator[tuple[_Position, Row]]:
    """Yield the rows of a stream from its beginning."""
    pieces = _chunks(file, stream, tell)
    head = _head(pieces)
    _check_encoding(head)
    chunks = _chain(head.removeprefix(_BYTE_ORDER_MARK), pieces)
    if not _is_list(head):
        yield from _lines(chunks, file.max_row_bytes)
        return
    splitter = ListSplitter(parse_row, file.max_row_bytes)
    number = 0
    for number, row in enumerate(splitter.rows(chunks), start=1):
        yield _Position("entry", number), row
    if splitter.is_unfinished:
        raise _Ended(f"truncated after entry {number}: the list has no end; fetch the file again")


def _is_list(head: bytes) -> bool:
    """Whether a file is a list, or objects over several lines each."""
    begin = head.removeprefix(_BYTE_ORDER_MARK).lstrip(_WHITE)
    return begin[:1] == b"[" or begin.partition(b"\n")[0].strip(_WHITE) == b"{"


def _head(chunks: Iterator[bytes]) -> bytes:
    """Read from the beginning until something other than white space comes."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4 and (len(head) >= _MAX_WHITE or head.removeprefix(_BYTE_ORDER_MARK).strip(_WHITE)):
            break
    return head


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _chunks(file: RawInput, stream: BinaryIO, tell: Callable[[], int], start: int = 0) -> Iterator[bytes]:
    """Read a stream; what comes before a damage is read, too."""
    is_open = True
    while is_open:
        pieces: list[bytes] = []
        size, damage = 0, None
        while size < CHUNK and is_open:
            try:
                piece = stream.read1(CHUNK - size)  # type: ignore[attr-defined]
            except (*DAMAGE, zipfile.BadZipFile) as error:
                piece, damage = b"", error
            is_open = bool(piece)
            pieces.append(piece)
            size += len(piece)
        file.num_done = min(tell() - start, file.file.num_bytes)
        yield b"".join(pieces)
        if damage is not None:
            raise damage


def _check_encoding(head: bytes) -> None:
    encoding = json.detect_encoding(head[:4]) if head[:4].strip(b"\0") else "utf-8"
    if not encoding.startswith("utf-8"):
        name = encoding.upper()
        raise _Ended(f"line 1 is {name}, expected UTF-8; convert the file: iconv -f {name} -t UTF-8")


def _lines(chunks: Iterator[bytes], max_bytes: int, number: int = 1) -> Iterator[tuple[_Position, Row]]:
    """Cut a stream into lines and parse them, without the empty ones; a line over the limit is not built.

    Args:
        chunks: the stream.
        max_bytes: maximum size of a line.
        number: number of the first line.
    """
    rest, is_too_large = b"", False
    for chunk in chunks:
        lines = chunk.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        for line in lines:
            if is_too_large or len(line) > max_bytes:
                yield _Position("line", number), row_too_large(max_bytes)
            elif stripped := _stripped(line):
                yield _Position("line", number), parse_row(stripped)
            number, is_too_large = number + 1, False
        if is_too_large or len(rest) > max_bytes:
            rest, is_too_large = b"", True
    if is_too_large:
        yield _Position("line", number), row_too_large(max_bytes)
    elif stripped := _stripped(rest):
        row = parse_row(stripped)
        if isinstance(row, OddRow) and row.name in ("not_json", "not_utf8"):
            row = OddRow("truncated_row", f"the last line ends too early, so the file may be truncated; {row.detail}")
        yield _Position("line", number), row


def _stripped(line: bytes) -> bytes:
    return line.removeprefix(_BYTE_ORDER_MARK).strip(_WHITE)  # files joined with cat have byte order marks inside


def split(root: RawRoot, file: RawFile, target_bytes: int) -> list[RawFile]:
    """Split a plain file of JSON lines into ranges of about some bytes; any other file is one range."""
    head = root.read_range(file.name, 0, CHUNK)
    is_lines = head.removeprefix(_BYTE_ORDER_MARK).strip(_WHITE) and not _is_list(head)
    if file.num_bytes <= target_bytes or compression_of(head) or head[:4] == _ZIP or not is_lines:
        return [file]
    count = -(-file.num_bytes // max(1, target_bytes))
    bounds = [file.num_bytes * index // count for index in range(count + 1)]
    lines = count_lines(root.local(file.name), bounds[:-1]) if root.is_local(file.name) else [None] * count
    return [
        file.model_copy(update={"start": start, "stop": stop, "num_bytes": stop - start, "lines_before": before})
        for (start, stop), before in zip(pairwise(bounds), lines, strict=True)
    ]


def _range_rows(file: RawInput) -> Iterator[tuple[Any, Row]]:
    """Yield the rows of a range; a line belongs to the range in which it begins."""
    start, stop = file.file.start, file.file.stop
    with file.path.open("rb") as stream:
        number = seek_line(stream, start, file.file.lines_before)
        begin = stream.tell()
        if stop is not None and begin >= stop:
            return
        if begin == 0:
            _check_plain(file, stream)
        chunks = until(_chunks(file, stream, stream.tell, start), begin, stop)
        yield from _named(file, "", _lines(chunks, file.max_row_bytes, number))


def _check_plain(file: RawInput, stream: BinaryIO) -> None:
    """Refuse a range of a file that has none."""
    head = _head(_chunks(file, stream, stream.tell))
    try:
        _check_encoding(head)
    except _Ended as ended:
        raise DataError(f"{file.name}: {ended}") from None
    stream.seek(0)


def _zip_rows(file: RawInput) -> Iterator[tuple[Any, Row]]:
    """Yield the rows of all JSON files in a zip archive."""
    try:
        with file.path.open("rb") as below, zipfile.ZipFile(below) as archive:
            members = [info for info in archive.infolist() if _is_json_member(info)]
            for info in members:
                name = info.filename if len(members) > 1 else ""
                with archive.open(info) as stream:
                    yield from _named(file, name, _rows(file, stream, below.tell))  # type: ignore[arg-type]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *DAMAGE) as error:
        raise DataError(f"{file.name}: damaged, or a kind of zip archive that cannot be read ({error})") from None


def zip_left_out(file: RawInput) -> Iterator[LeftOut]:
    """Yield the members of a zip archive that are not read; none for any other file."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        return  # another kind of file, or a damaged one, of which reading its rows says how
    for info in members:
        if not info.is_dir() and not _is_json_member(info):
            yield LeftOut(file.origin(encodable(info.filename)), info.file_size, "not a JSON file")


def _is_json_member(info: zipfile.ZipInfo) -> bool:
    folder, _, name = info.filename.rpartition("/")
    is_hidden = name.startswith(".") or folder.startswith("__MACOSX")
    return not is_hidden and name.lower().endswith(tuple(f".{suffix}" for suffix in SUFFIXES))
