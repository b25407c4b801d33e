"""Rows of jsonl files, plain or compressed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mm1.data.prepare.sources.raw import RawInput
from mm1.errors import DataError

COMPRESSIONS = {".zst": "zstd", ".gz": "gzip"}


def json_rows(file: RawInput) -> Iterator[dict[str, Any]]:
    """Yield the objects of a jsonl file, plain or compressed; empty lines are skipped.

    Raises:
        DataError: a line is not a UTF-8 JSON object, or the file is truncated.
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
