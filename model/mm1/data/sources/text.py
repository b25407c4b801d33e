"""Text documents: jsonl (plain, .gz or .zst) with a ``text`` field, or parquet with a ``text`` column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mm1.data.sample import Sample, TextPart
from mm1.data.sources.obelics import rows
from mm1.data.sources.raw import Clean, find_files
from mm1.errors import DataError

FIELD = "text"
COMPRESSIONS = {".zst": "zstd", ".gz": "gzip"}
SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet")


def read(path: Path, clean: Clean) -> Iterator[Sample]:
    """Read a file, or all files of a folder.

    Raises:
        DataError: a file is damaged, or a row is not JSON with a text.
    """
    for file in find_files(path, SUFFIXES, "text file"):
        for number, row in enumerate(rows(file, (FIELD,)) if file.suffix == ".parquet" else json_rows(file)):
            text = row.get(FIELD)
            if not isinstance(text, str):
                raise DataError(f"{file.name}:{number}: no text in the field {FIELD!r}; its fields are {', '.join(row)}")
            meta = {"origin": f"{file.name}:{number}"}
            yield Sample(key="", source="text", parts=[TextPart(clean(text))], meta=meta)


def json_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Objects of a jsonl file, plain or compressed; empty lines are passed over.

    Raises:
        DataError: a line is not a JSON object in UTF-8, or the file is truncated.
    """
    number = 0
    try:
        with _open(file) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    row = json.loads(line.decode())
                    if not isinstance(row, dict):
                        raise DataError(f"{file}: line {number} is not a JSON object")
                    yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: line {number} is not UTF-8 ({error.reason} at byte {error.start})") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: truncated or damaged after line {number} ({error})") from None
    except ValueError as error:
        raise DataError(f"{file}: line {number} is not JSON ({error})") from None


def _open(file: Path) -> io.BufferedReader:
    compression = COMPRESSIONS.get(file.suffix)
    return io.BufferedReader(pa.input_stream(str(file), compression=compression)) if compression else file.open("rb")
