"""Interleaved documents in OBELICS's format: parquet with the parallel lists ``images`` and ``texts``.

At each position, exactly one of the two is set. ``images`` contains addresses; other columns (``metadata``) are ignored. The
images' bytes are in a third parallel list ``image_bytes`` (bytes, or ``{"bytes", "path"}`` as written by Hugging Face
datasets), or the entries of ``images`` are names of files next to the parquet file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mm1.data.prepare.sources.parquet import image_bytes, rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.sample import ImagePart, Part, Sample, TextPart

NEEDED = ("images", "texts")
BYTES = "image_bytes"


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a parquet file.

    Raises:
        DataError: not parquet, a column is missing or has the wrong type, lists differ in length, or an image is remote.
    """
    return read_rows(file, rows(file, NEEDED, (BYTES,)), lambda origin, row: _sample(file, origin, row, clean))


def _sample(file: RawInput, origin: str, row: dict[str, Any], clean: Clean) -> Sample:
    names, texts, contents = row["images"], row["texts"], row.get(BYTES)
    for column, value in (("images", names), ("texts", texts), (BYTES, contents if BYTES in row else [])):
        if not isinstance(value, list):
            raise OddRow("no_list", f"expected a list in {column!r}")
    if len(names) != len(texts) or (contents is not None and len(contents) != len(names)):
        raise OddRow("lengths_differ", f"images, texts and {BYTES} differ in length")
    parts: list[Part] = []
    images: list[bytes] = []
    addresses: list[str] = []
    for position, (name, text) in enumerate(zip(names, texts, strict=True)):
        if (name is None) == (text is None):
            raise OddRow("image_or_text", f"expected either an image or a text at position {position}")
        if text is not None:
            parts.append(TextPart(clean(str(text))))
            continue
        parts.append(ImagePart(len(images)))
        images.append(image_bytes(contents[position]) if contents is not None else file.read_adjacent(str(name)))
        addresses.append(str(name))
    return Sample(key="", source=file.source, parts=parts, images=images, meta={"origin": origin, "addresses": addresses})
