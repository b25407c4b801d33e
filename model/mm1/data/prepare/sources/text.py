"""Text documents: jsonl (plain, .gz or .zst) with a ``text`` field, or parquet with a ``text`` column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mm1.data.prepare.sources.jsonl import json_rows
from mm1.data.prepare.sources.parquet import rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.sources.values import as_text
from mm1.data.sample import Sample, TextPart

FIELD = "text"


def read_jsonl(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a jsonl file.

    Raises:
        DataError: the file is damaged, or a row is not a JSON object with a text.
    """
    return _samples(file, json_rows(file), clean)


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a parquet file.

    Raises:
        DataError: the file is damaged or has no text column.
    """
    return _samples(file, rows(file, (FIELD,)), clean)


def _samples(file: RawInput, entries: Iterable[tuple[int, dict[str, Any] | OddRow]], clean: Clean) -> Iterator[Item]:
    def make(origin: str, row: dict[str, Any]) -> Sample:
        text = as_text(row.get(FIELD))
        if text is None:
            raise OddRow("no_text", f"expected a text in the field {FIELD!r}; the fields are {', '.join(row)}")
        return Sample(key="", source=file.source, parts=[TextPart(clean(text))], meta={"origin": origin})

    return read_rows(file, entries, make)
