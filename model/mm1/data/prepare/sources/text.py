"""Text documents: jsonl (plain, .gz or .zst) with a ``text`` field, or parquet with a ``text`` column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mm1.data.prepare.sources.obelics import rows
from mm1.data.prepare.sources.raw import Clean, RawInput
from mm1.data.sample import Sample, TextPart
from mm1.errors import DataError

FIELD = "text"
COMPRESSIONS = {".zst": "zstd", ".gz": "gzip"}


def read_jsonl(file: RawInput, clean: Clean) -> Iterator[Sample]:
    """Read a jsonl file.

    Raises:
        DataError: the file is damaged, or a row is not JSON with a text.
    """
    return _samples(file, json_rows(file), clean)


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Sample]:
    """Read a parquet file.

    Raises:
        DataError: the file is damaged, or has no column of texts.
    """
    return _samples(file, rows(file, (FIELD,)), clean)


def _samples(file: RawInput, found: Iterable[dict[str, Any]], clean: Clean) -> Iterator[Sample]:
    for number, row in enumerate(found):
        text = row.get(FIELD)
        if not isinstance(text, str):
            raise DataError(f"{file.origin(number)}: no text in the field {FIELD!r}; its fields are {', '.join(row)}")
        yield Sample(key="", source="text", parts=[TextPart(clean(text))], meta={"origin": file.origin(number)})


def json_rows(file: RawInput) -> Iterator[dict[str, Any]]:
    """Objects of a jsonl file, plain or compressed; empty lines are passed over.

    Raises:
        DataError: a line is not a JSON object in UTF-8, or the file is truncated.
    """
    number = 0
    try:
        with _open(file.path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    row = json.loads(line.decode())
                    if not isinstance(row, dict):
                        raise DataError(f"{file.name}: line {number} is not a JSON object")
                    yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: line {number} is not UTF-8 ({error.reason} at byte {error.start})") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.name}: truncated or damaged after line {number} ({error})") from None
    except ValueError as error:
        raise DataError(f"{file.name}: line {number} is not JSON ({error})") from None


def _open(path: Path) -> io.BufferedReader:
    compression = COMPRESSIONS.get(path.suffix)
    return io.BufferedReader(pa.input_stream(str(path), compression=compression)) if compression else path.open("rb")
