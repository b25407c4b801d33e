"""Caption pairs: an image, its captions, and the fields of its metadata."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mm1.data.prepare.files.raw import Clean, OddRow, RawInput
from mm1.data.prepare.files.roles import column_for
from mm1.data.prepare.files.values import as_text, metadata, type_of
from mm1.data.sample import ImagePart, Sample, TextPart

KEPT_FIELDS = ("caption_kind", "clip_similarity_vitl14", "punsafe", "pwatermark")
"""Fields copied to the sample's metadata."""


def samples_of(
    file: RawInput, origin: str, image: bytes, captions: Sequence[str], fields: Mapping[str, Any], clean: Clean
) -> list[Sample]:
    """Create a sample for each caption of an image.

    Args:
        file: the raw file.
        origin: raw file and row. Several captions are numbered: ``00000.parquet:7#2``.
        image: the encoded image; empty if it is missing, so that the filters count it.
        captions: its captions. None at all is one empty caption, so that the filters count it.
        fields: metadata of the pair.
        clean: makes texts safe to use.
    """
    meta = metadata(fields, KEPT_FIELDS)
    column = column_for("url", fields, file.columns) if fields else None
    url = as_text(fields[column]) if column else None
    if url:
        meta["addresses"] = [clean(url)]
    return [
        Sample(
            key="",
            source=file.source,
            parts=[ImagePart(0), TextPart(clean(caption))],
            images=[image],
            meta=meta | {"origin": origin if len(captions) < 2 else f"{origin}#{number}"},
        )
        for number, caption in enumerate(captions or [""], start=1)
    ]


def captions_of(value: Any, field: str) -> list[str]:
    """Return the captions in a cell: a text, UTF-8 bytes, or a list of them; null is an empty caption.

    Raises:
        OddRow: any other type.
    """
    if value is None:
        return [""]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _captions_in_list(item, field)]
    text = as_text(value)
    if text is None:
        raise OddRow("caption_not_text", f"expected a text or a list of texts in {field!r}, got {_kind(value)}")
    return [text]


def _captions_in_list(value: Any, field: str) -> list[str]:
    if isinstance(value, list | tuple | dict):
        raise OddRow("caption_not_text", f"expected texts in the list {field!r}, got {_kind(value)}")
    return captions_of(value, field)


def _kind(value: Any) -> str:
    return "bytes that are not UTF-8" if isinstance(value, bytes) else type_of(value)


def decode_caption(data: bytes, name: str) -> str:
    """Decode the content of a caption file.

    Raises:
        OddRow: not UTF-8.
    """
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise OddRow("caption_not_utf8", f"expected UTF-8 in {name}, got another byte at {error.start}; convert it") from None


def fields_of(data: bytes) -> dict[str, Any] | None:
    """Parse the JSON of a pair; None if it is not a JSON object."""
    try:
        fields = json.loads(data.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def pair_samples(
    file: RawInput, origin: str, image: bytes, texts: Sequence[tuple[str, bytes]], data: bytes | None, clean: Clean
) -> list[Sample]:
    """Create the samples of a pair that consists of files: an image, captions, and JSON.

    A caption file takes precedence over the JSON, unless the user named a field. A broken JSON is ignored if there
    is a caption file.

    Args:
        file: the raw file.
        origin: raw file and row.
        image: the encoded image; empty if it is missing.
        texts: name and content of each caption file.
        data: content of the JSON, if there is one.
        clean: makes texts safe to use.

    Raises:
        OddRow: the captions cannot be read.
    """
    fields = fields_of(data) if data else {}
    given = file.columns.get("caption", "")
    if given and fields and given in fields:
        captions = captions_of(fields[given], given)
    elif texts:
        captions = [decode_caption(content, name) for name, content in texts]
    elif fields is None:
        raise OddRow("not_json", "expected an object in the .json, which holds the caption")
    else:
        field = column_for("caption", fields, file.columns)
        if field is None and given:
            raise OddRow("no_caption", f"expected a caption in the field {given!r} of a .json or in a file .{given}")
        captions = captions_of(fields[field], field) if field else []
    return samples_of(file, origin, image, captions, fields or {}, clean)
