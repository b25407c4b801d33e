"""Rows of CSV and TSV files with a header, plain or compressed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from mm1.data.prepare.sources.compressed import DAMAGE, open_stream
from mm1.data.prepare.sources.raw import OddRow, RawInput
from mm1.data.prepare.sources.values import BYTE_ORDER_MARK
from mm1.errors import DataError

SEPARATORS = (",", "\t", ";", "|")


def csv_columns(file: RawInput) -> list[str]:
    """Read the header.

    Raises:
        DataError: there is none.
    """
    with open_stream(file.path) as (stream, _):
        lines = _Lines(file, stream, None)
        header = _header(file, lines)
    return header


def csv_rows(file: RawInput) -> Iterator[tuple[int, dict[str, Any] | OddRow]]:
    """Yield the rows with the numbers of the lines in which they begin; empty lines are skipped.

    Raises:
        DataError: damaged or truncated, or a quote is not closed.
    """
    csv.field_size_limit(file.max_row_bytes)
    number = 0
    try:
        with open_stream(file.path) as (stream, below):
            lines = _Lines(file, stream, below)
            names = _header(file, lines)
            reader = csv.reader(lines, delimiter=lines.separator)
            lines.first = 0
            for values in reader:
                number = lines.first
                yield from lines.take_odd()
                if values:
                    yield number, _row(names, values)
                lines.first = 0
            yield from lines.take_odd()
    except csv.Error as error:
        raise DataError(f"{file.name}: the row after line {number} cannot be read ({error})") from None
    except DAMAGE as error:
        raise DataError(f"{file.name}: truncated or damaged after line {number} ({error})") from None


def _row(names: list[str], values: list[str]) -> dict[str, Any] | OddRow:
    if len(values) != len(names):
        return OddRow("columns_differ", f"expected {len(names)} columns as in the header, got {len(values)}")
    return dict(zip(names, values, strict=True))


def _header(file: RawInput, lines: _Lines) -> list[str]:
    line = next(lines, "").removeprefix(BYTE_ORDER_MARK)
    lines.separator = max(SEPARATORS, key=line.count)
    names = next(csv.reader([line], delimiter=lines.separator), [])
    if not names:
        raise DataError(f"{file.name}: expected a header with the names of the columns in line 1")
    return [name.strip() for name in names]


class _Lines:
    """The lines of a file, as text; without those that are above the limit or not UTF-8.

    Attributes:
        separator: separator of the columns.
        number: number of the last line.
        first: number of the first line that was returned since it was set to 0.
    """

    def __init__(self, file: RawInput, stream: BinaryIO, below: BinaryIO | None) -> None:
        self.separator = ","
        self.number = self.first = 0
        self._file = file
        self._stream = stream
        self._below = below
        self._odd: list[tuple[int, OddRow]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line."""
        limit = self._file.max_row_bytes
        while line := self._stream.readline(limit + 1):
            self.number += 1
            if self._below is not None:
                self._file.num_done = self._below.tell()
            if len(line) > limit:
                while line and not line.endswith(b"\n"):
                    line = self._stream.readline(io.DEFAULT_BUFFER_SIZE)
                self._odd.append((self.number, OddRow("row_too_large", f"larger than max_row_bytes ({limit:,} bytes)")))
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                message = f"not UTF-8 ({error.reason} at byte {error.start + 1} of the line); convert the file with iconv"
                self._odd.append((self.number, OddRow("not_utf8", message)))
                continue
            self.first = self.first or self.number
            return text
        raise StopIteration

    def take_odd(self) -> list[tuple[int, OddRow]]:
        """Return the lines that were left out, once."""
        odd, self._odd = self._odd, []
        return odd
