"""Text documents: jsonl (plain, .gz or .zst) with a ``text`` field, or parquet with a ``text`` column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mm1.data.prepare.sources.jsonl import json_rows
from mm1.data.prepare.sources.parquet import rows
from mm1.data.prepare.sources.raw import Clean, RawInput
from mm1.data.sample import Sample, TextPart
from mm1.errors import DataError

FIELD = "text"


def read_jsonl(file: RawInput, clean: Clean) -> Iterator[Sample]:
    """Read a jsonl file.

    Raises:
        DataError: the file is damaged, or a row is not a JSON object with a text.
    """
    return _samples(file, json_rows(file), clean)


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Sample]:
    """Read a parquet file.

    Raises:
        DataError: the file is damaged or has no text column.
    """
    return _samples(file, rows(file, (FIELD,)), clean)


def _samples(file: RawInput, entries: Iterable[dict[str, Any]], clean: Clean) -> Iterator[Sample]:
    for number, row in enumerate(entries):
        text = row.get(FIELD)
        if not isinstance(text, str):
            raise DataError(f"{file.origin(number)}: expected a text in the field {FIELD!r}; the fields are {', '.join(row)}")
        yield Sample(key="", source=file.source, parts=[TextPart(clean(text))], meta={"origin": file.origin(number)})
