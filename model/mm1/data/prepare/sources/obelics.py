"""Interleaved documents in OBELICS's format: the parallel lists ``images`` and ``texts``, in a table or in JSON.

At each position, one of the two is set; a position where neither is set (null or empty) is skipped. An entry of ``images`` is
an address, the name of a file next to the table, bytes, or ``{"bytes", "path"}`` as written by Hugging Face datasets. The
bytes may also be in a third parallel list ``image_bytes``. Other columns (``metadata``) are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mm1.data.prepare.files.fields import Fields, listed
from mm1.data.prepare.files.images import address_of, read_image
from mm1.data.prepare.files.jsonl import json_rows
from mm1.data.prepare.files.parquet import columns_of, is_table, rows
from mm1.data.prepare.files.raw import REMOTE, Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.values import as_text, type_of
from mm1.data.sample import ImagePart, Part, Sample, TextPart

BYTES = "image_bytes"


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a table or a JSON file.

    Raises:
        DataError: the file is damaged, or a column is missing.
    """
    fields = Fields(file)
    if not is_table(file.path):
        return read_rows(file, json_rows(file), lambda origin, row: _sample(file, fields, origin, row, clean))
    names = columns_of(file)
    needed = (fields.need("images", names), fields.need("texts", names))
    return read_rows(file, rows(file, needed, (BYTES,)), lambda origin, row: _sample(file, fields, origin, row, clean))


def _sample(file: RawInput, fields: Fields, origin: str, row: dict[str, Any], clean: Clean) -> Sample:
    names, texts = _list(fields, row, "images"), _list(fields, row, "texts")
    if names is None and texts is None:
        raise OddRow("no_list", "expected a list of images or texts, got null")
    size = len(names if names is not None else texts or ())
    names, texts = names or [None] * size, texts or [None] * size
    contents = row.get(BYTES) or [None] * size
    if not isinstance(contents, list):
        raise OddRow("no_list", f"expected a list in {BYTES!r}, got {type_of(contents)}")
    if not len(names) == len(texts) == len(contents):
        lengths = f"{len(names)}, {len(texts)}, {len(contents)}"
        raise OddRow("lengths_differ", f"images, texts and {BYTES} differ in length: {lengths}")
    parts: list[Part] = []
    images: list[bytes] = []
    addresses: list[str] = []
    for position, (name, value, content) in enumerate(zip(names, texts, contents, strict=True)):
        text = "" if value is None else as_text(value)
        if text is None:
            raise OddRow("no_text", f"expected a text or null at position {position} of texts, got {type_of(value)}")
        if _is_nothing(name) and _is_nothing(content):
            parts += [TextPart(clean(text))] if text else []
            continue
        if text:
            raise OddRow("image_and_text", f"expected either an image or a text at position {position}")
        parts.append(ImagePart(len(images)))
        data, address = _image(file, name, content, BYTES in row)
        images.append(data)
        addresses.append(address)
    return Sample(key="", source=file.source, parts=parts, images=images, meta={"origin": origin, "addresses": addresses})


def _list(fields: Fields, row: dict[str, Any], role: str) -> list[Any] | None:
    name = fields.choose(role, row)
    if name is None:
        raise OddRow("no_list", f"expected a list in {role!r}; the fields are {listed(row)}")
    value = row[name]
    if value is not None and not isinstance(value, list):
        raise OddRow("no_list", f"expected a list in {name!r}, got {type_of(value)}")
    return value


def _image(file: RawInput, name: Any, content: Any, has_bytes: bool) -> tuple[bytes, str]:
    """Read the image at a position; one without bytes is missing if the bytes of others are in the rows."""
    if not _is_nothing(content):
        data, address = read_image(file, content)
        return data, (address_of(name) if isinstance(name, str) else address)
    if has_bytes and file.fetch is None and isinstance(name, str) and REMOTE.match(name):
        return b"", address_of(name)
    return read_image(file, name)


def _is_nothing(value: Any) -> bool:
    return not (any(value.values()) if isinstance(value, Mapping) else value)
