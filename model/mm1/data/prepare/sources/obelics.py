"""Interleaved documents as OBELICS has them: parquet with the parallel lists ``images`` and ``texts``.

At each position exactly one of the two is set. ``images`` holds addresses; other columns (``metadata``) are passed over. The
images' bytes stand in a further parallel list ``image_bytes`` (bytes, or ``{"bytes", "path"}`` as Hugging Face datasets writes
images), or the entries of ``images`` name files beside the parquet file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.prepare.sources.raw import Clean, RawInput
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.errors import DataError

NEEDED = ("images", "texts")
BYTES = "image_bytes"
ROWS_AT_ONCE = 32


def read(file: RawInput, clean: Clean) -> Iterator[Sample]:
    """Read a parquet file.

    Raises:
        DataError: not parquet, a column is missing or of another type, a row's lists do not match, or an image is remote.
    """
    for number, row in enumerate(rows(file, NEEDED, (BYTES,))):
        yield _sample(file, file.origin(number), row, clean)


def rows(file: RawInput, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file, a few at a time.

    Raises:
        DataError: not parquet, damaged, or without a needed column.
    """
    try:
        with pq.ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            for name in needed:
                if name not in names:
                    raise DataError(f"{file.name}: no column {name!r}; its columns are {', '.join(names)}")
            columns = [name for name in (*needed, *optional) if name in names]
            for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a whole parquet file ({str(error).splitlines()[0]})") from None


def columns_of(file: RawInput) -> list[str]:
    """Names of the columns of a parquet file.

    Raises:
        DataError: not parquet.
    """
    try:
        return list(pq.read_schema(file.path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: not a whole parquet file ({str(error).splitlines()[0]})") from None


def image_bytes(value: Any) -> bytes:
    """An image in a cell: bytes, or the structure that Hugging Face datasets writes; empty for none."""
    value = value.get("bytes") if isinstance(value, dict) else value
    return value if isinstance(value, bytes) else b""


def _sample(file: RawInput, origin: str, row: dict[str, Any], clean: Clean) -> Sample:
    names, texts, contents = row["images"], row["texts"], row.get(BYTES)
    for column, value in (("images", names), ("texts", texts), (BYTES, contents if BYTES in row else [])):
        if not isinstance(value, list):
            raise DataError(f"{origin}: {column!r} is not a list")
    if len(names) != len(texts) or (contents is not None and len(contents) != len(names)):
        raise DataError(f"{origin}: images, texts and {BYTES} are not equally long")
    parts: list[Part] = []
    images: list[bytes] = []
    addresses: list[str] = []
    for position, (name, text) in enumerate(zip(names, texts, strict=True)):
        if (name is None) == (text is None):
            raise DataError(f"{origin}: position {position} must have an image or a text, not both or neither")
        if text is not None:
            parts.append(TextPart(clean(str(text))))
            continue
        parts.append(ImagePart(len(images)))
        images.append(image_bytes(contents[position]) if contents is not None else file.beside(str(name), origin))
        addresses.append(str(name))
    return Sample(key="", source="interleaved", parts=parts, images=images, meta={"origin": origin, "addresses": addresses})
