"""Interleaved documents as OBELICS has them: parquet with the parallel lists ``images`` and ``texts``.

At each position exactly one of the two is set. The images' bytes stand in a further parallel list ``image_bytes``, or the
entries of ``images`` name files beside the parquet file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.data.sources.raw import Clean, find_files, read_beside
from mm1.errors import DataError

NEEDED = ("images", "texts")
BYTES = "image_bytes"
ROWS_AT_ONCE = 32


def read(path: Path, clean: Clean) -> Iterator[Sample]:
    """Read a parquet file, or all of a folder.

    Raises:
        DataError: not parquet, a column is missing or of another type, a row's lists do not match, or an image is remote.
    """
    for file in find_files(path, (".parquet",), "OBELICS parquet"):
        for number, row in enumerate(rows(file, NEEDED, (BYTES,))):
            yield _sample(file, f"{file.name}:{number}", row, clean)


def rows(file: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file, a few at a time.

    Raises:
        DataError: not parquet, damaged, or without a needed column.
    """
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            for name in needed:
                if name not in names:
                    raise DataError(f"{file}: no column {name!r}; its columns are {', '.join(names)}")
            columns = [name for name in (*needed, *optional) if name in names]
            for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a whole parquet file ({str(error).splitlines()[0]})") from None


def _sample(file: Path, origin: str, row: dict[str, Any], clean: Clean) -> Sample:
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
        images.append((contents[position] or b"") if contents is not None else read_beside([file.parent], str(name), origin))
        addresses.append(str(name))
    return Sample(key="", source="interleaved", parts=parts, images=images, meta={"origin": origin, "addresses": addresses})
