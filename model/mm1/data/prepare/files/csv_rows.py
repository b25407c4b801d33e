"""Rows of CSV and TSV files with a header, plain or compressed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from mm1.data.prepare.files.compressed import DAMAGE, open_stream
from mm1.data.prepare.files.raw import OddRow, RawInput, row_too_large
from mm1.data.prepare.files.values import BYTE_ORDER_MARK
from mm1.errors import DataError

SEPARATORS = (",", "\t", ";", "|")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def split_header(line: str) -> tuple[str, list[str]]:
    """Return the separator of the columns, and their names; separators in quotes do not count."""
    plain = _QUOTED.sub("", line)
    separator = max(SEPARATORS, key=plain.count)
    names = next(csv.reader([line], delimiter=separator), [])
    return separator, [name.strip() for name in names]


def csv_columns(file: RawInput) -> list[str]:
    """Read the header.

    Raises:
        DataError: there is none, or it is not UTF-8.
    """
    with open_stream(file.path) as (stream, _):
        lines = _Lines(file, stream, None)
        header = _header(file, lines)
    return header


def csv_rows(file: RawInput) -> Iterator[tuple[int, dict[str, Any] | OddRow]]:
    """Yield the rows with the numbers of the lines in which they begin; empty lines are skipped.

    A quote that is not closed costs the row in which it is opened: reading continues with the line after it.

    Raises:
        DataError: damaged or truncated.
    """
    csv.field_size_limit(file.max_row_bytes)
    number = 0
    try:
        with open_stream(file.path) as (stream, below):
            lines = _Lines(file, stream, below)
            names = _header(file, lines)
            reader = csv.reader(lines, delimiter=lines.separator)
            while (row := _next_row(reader, lines, names)) is not None:
                number = lines.row[0][0]
                yield from lines.take_odd()
                if row:
                    yield number, row
            yield from lines.take_odd()
    except DAMAGE as error:
        raise DataError(f"{file.name}: truncated or damaged after line {number} ({error})") from None


def _next_row(reader: Iterator[list[str]], lines: _Lines, names: list[str]) -> dict[str, Any] | OddRow | None:
    """Read a row; empty for an empty line, None at the end."""
    lines.row = []
    try:
        values = next(reader, None)
    except csv.Error as error:
        lines.return_to_second()
        return OddRow("not_csv", f"not a row of CSV ({error})")
    if values is None:
        return None
    if lines.is_over or not _is_closed(lines):  # a complete row ends before the file does
        lines.return_to_second()
        return OddRow("quote_not_closed", "a quote is opened and not closed; a quote in a quoted text is doubled")
    if values and len(values) != len(names):
        lines.return_to_second()
        return OddRow("columns_differ", f"expected {len(names)} columns as in the header, got {len(values)}")
    return dict(zip(names, values, strict=True)) if values else {}


def _is_closed(lines: _Lines) -> bool:
    """Whether each quote of a row over several lines is closed at the end of its column, rather than by that of a later row."""
    if len(lines.row) > 1:
        try:
            next(csv.reader((text for _, text in lines.row), delimiter=lines.separator, strict=True))
        except csv.Error:
            return False
    return True


def _header(file: RawInput, lines: _Lines) -> list[str]:
    line = next(lines, "").removeprefix(BYTE_ORDER_MARK)
    if lines.take_odd() or "\0" in line:
        raise DataError(f"{file.name}: line 1 is not UTF-8; convert the file: iconv -f ENCODING -t UTF-8")
    if "\r" in line.rstrip("\r\n"):
        raise DataError(f"{file.name}: lines end with CR alone; convert the file: tr '\\r' '\\n'")
    lines.separator, names = split_header(line)
    if not names:
        raise DataError(f"{file.name}: expected a header with the names of the columns in line 1")
    return names


class _Lines:
    """The lines of a file, as text; without those that are above the limit or not UTF-8.

    Attributes:
        separator: separator of the columns.
        row: numbers and texts of the lines that were returned since it was set to an empty list.
        is_over: whether the end was reached while a row was read.
    """

    def __init__(self, file: RawInput, stream: BinaryIO, below: BinaryIO | None) -> None:
        self.separator = ","
        self.row: list[tuple[int, str]] = []
        self.is_over = False
        self._number = 0
        self._file = file
        self._stream = stream
        self._below = below
        self._odd: list[tuple[int, OddRow]] = []
        self._again: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line."""
        line = self._again.pop() if self._again else self._read()
        if line is None:
            self.is_over = bool(self.row)
            raise StopIteration
        self.row.append(line)
        return line[1]

    def return_to_second(self) -> None:
        """Return the lines of the row again, without the first."""
        self._again += reversed(self.row[1:])
        self.is_over = False

    def _read(self) -> tuple[int, str] | None:
        limit = self._file.max_row_bytes
        while line := self._stream.readline(limit + 1):
            self._number += 1
            if self._below is not None:
                self._file.num_done = self._below.tell()
            if len(line) > limit:
                while line and not line.endswith(b"\n"):
                    line = self._stream.readline(io.DEFAULT_BUFFER_SIZE)
                self._odd.append((self._number, row_too_large(limit)))
                continue
            try:
                return self._number, line.decode()
            except UnicodeDecodeError as error:
                message = f"not UTF-8 ({error.reason} at byte {error.start + 1} of the line); convert the file with iconv"
                self._odd.append((self._number, OddRow("not_utf8", message)))
        return None

    def take_odd(self) -> list[tuple[int, OddRow]]:
        """Return the lines that were left out, once."""
        odd, self._odd = self._odd, []
        return odd
