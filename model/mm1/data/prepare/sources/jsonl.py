"""Rows of jsonl files, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mm1.data.prepare.sources.compressed import DAMAGE, open_stream
from mm1.data.prepare.sources.raw import OddRow, RawInput
from mm1.errors import DataError


def json_rows(file: RawInput) -> Iterator[tuple[int, dict[str, Any] | OddRow]]:
    """Yield the line numbers and objects of a jsonl file, plain or compressed; empty lines are skipped.

    Raises:
        DataError: the file is damaged or truncated.
    """
    number = 0
    try:
        with open_stream(file.path) as (stream, below):
            for number, line in enumerate(stream, start=1):
                file.num_done = below.tell()
                if line.strip():
                    yield number, parse_row(line)
    except DAMAGE as error:
        raise DataError(f"{file.name}: truncated or damaged after line {number} ({error})") from None


def parse_row(line: bytes) -> dict[str, Any] | OddRow:
    """Parse a JSON object."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return OddRow("not_utf8", f"not UTF-8 ({error.reason} at byte {error.start})")
    except (ValueError, RecursionError) as error:
        return OddRow("not_json", f"not JSON ({error})")
    return row if isinstance(row, dict) else OddRow("not_an_object", "expected a JSON object")
