"""Text documents: JSON lines or lists, or tables, with the text in a field or column (:mod:`roles <.roles>`: ``text``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mm1.data.prepare.files.fields import Fields, listed
from mm1.data.prepare.files.jsonl import json_rows, zip_left_out
from mm1.data.prepare.files.parquet import columns_of, rows
from mm1.data.prepare.files.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.values import as_text, type_of
from mm1.data.sample import Sample, TextPart


def read_jsonl(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a JSON file, or all JSON files in a zip archive.

    Raises:
        DataError: the file is damaged or truncated.
    """
    yield from zip_left_out(file)
    yield from _samples(file, Fields(file), json_rows(file), clean)


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a table.

    Raises:
        DataError: the file is damaged or has no text column.
    """
    fields = Fields(file)
    return _samples(file, fields, rows(file, (fields.need("text", columns_of(file)),)), clean)


def _samples(
    file: RawInput, fields: Fields, entries: Iterable[tuple[object, dict[str, Any] | OddRow]], clean: Clean
) -> Iterator[Item]:
    def make(origin: str, row: dict[str, Any]) -> Sample:
        name = fields.choose("text", row)
        if name is None:
            expected = file.columns.get("text", "text")
            raise OddRow("no_text", f"expected a text in the field {expected!r}; the fields are {listed(row)}")
        text = as_text(row[name])
        if text is None:
            raise OddRow("no_text", f"expected a text in the field {name!r}, got {type_of(row[name])}")
        return Sample(key="", source=file.source, parts=[TextPart(clean(text))], meta={"origin": origin})

    return read_rows(file, entries, make)
