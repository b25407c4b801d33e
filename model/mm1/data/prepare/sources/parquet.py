"""Rows of parquet files, and images in their cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.prepare.sources.raw import RawInput
from mm1.errors import DataError

ROW_BATCH = 32


def rows(file: RawInput, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a parquet file with their numbers, from 1, reading a few at a time.

    Raises:
        DataError: not parquet, damaged, or without a required column.
    """
    try:
        with pq.ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            for name in needed:
                if name not in names:
                    raise DataError(f"{file.name}: no column {name!r}; its columns are {', '.join(names)}")
            columns = [name for name in (*needed, *optional) if name in names]
            number = 0
            for batch in parquet.iter_batches(batch_size=ROW_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a valid parquet file ({str(error).splitlines()[0]})") from None


def columns_of(file: RawInput) -> list[str]:
    """Read the column names of a parquet file.

    Raises:
        DataError: not parquet.
    """
    try:
        return list(pq.read_schema(file.path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: not a valid parquet file ({str(error).splitlines()[0]})") from None


def image_bytes(value: Any) -> bytes:
    """Extract the image in a cell: bytes, or the structure written by Hugging Face datasets; empty if there is none."""
    value = value.get("bytes") if isinstance(value, dict) else value
    return value if isinstance(value, bytes) else b""
