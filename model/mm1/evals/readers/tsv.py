"""Tables of tab-separated values with images in base64, as VLMEvalKit distributes benchmarks; images are read when needed."""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mm1.errors import DataError
from mm1.evals.files import Files


@dataclass(frozen=True)
class TsvRow:
    """A row of a table."""

    number: int
    """Line on which it begins, counted in rows."""
    offset: int
    """Byte at which it begins."""
    fields: dict[str, str]


def tsv_rows(files: Files, name: Path) -> Iterator[TsvRow]:
    """Read the rows of a table with a header.

    Raises:
        DataError: a row has another number of fields than the header, or is not UTF-8.
    """
    path = files.folder / name
    files.used.add(path)
    with path.open("rb") as file:
        with files.damaged(name, 1):
            head = _fields(_record(file, "utf-8-sig"))
        number = 2
        while True:
            offset = file.tell()
            with files.damaged(name, number):
                record = _record(file)
                if not record:
                    return
                if not record.strip():
                    continue
                fields = _fields(record)
                if len(fields) != len(head):
                    raise ValueError(f"expected {len(head)} fields, got {len(fields)}")
            yield TsvRow(number, offset, dict(zip(head, fields, strict=True)))
            number += 1


def _record(file: IO[bytes], encoding: str = "utf-8") -> str:
    """Read one record, which has several lines if a quoted field has line breaks; empty at the end of the file."""
    record = file.readline()
    while record.count(b'"') % 2 and (more := file.readline()):
        record += more
    return record.decode(encoding)


def _fields(record: str) -> list[str]:
    csv.field_size_limit(sys.maxsize)
    return next(csv.reader([record], delimiter="\t"), [])


@dataclass(frozen=True)
class Base64Image:
    """The image in a column of one row."""

    file: Path
    offset: int
    """Byte at which the row begins."""
    number: int
    column: str = "image"

    def read_bytes(self) -> bytes:
        """Decode the image.

        Raises:
            DataError: the row has changed, or the column is not base64.
        """
        with self.file.open("rb") as file:
            head = _fields(_record(file, "utf-8-sig"))
            file.seek(self.offset)
            row = dict(zip(head, _fields(_record(file)), strict=False))
        try:
            return base64.b64decode(row[self.column], validate=True)
        except (KeyError, binascii.Error, ValueError) as error:
            raise DataError(f"{self}: not base64: {error}") from None

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}, column {self.column}"
