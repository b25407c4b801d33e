"""Images in the cells of tables and the fields of JSON rows: bytes, or how to find them.

====================================  ==================================================
bytes                                 the encoded image
``{"bytes": ..., "path": ...}``       the bytes, or the file (Hugging Face datasets)
a list of whole numbers               the bytes
``data:image/jpeg;base64,...``        the content
base64                                the content
a path                                the file next to the table, its folder, or ``images``
``https://...``                       fetched, if that is allowed
null, or empty                        no image: empty bytes, which the filters count
====================================  ==================================================
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from mm1.data.prepare.sources.raw import REMOTE, OddRow, RawInput
from mm1.data.prepare.sources.values import as_text, type_of

FOLDERS = ("", "images")
MAX_PATH = 4096
MAX_SHORT = 512
"""A longer text that can be base64 is no path."""
_PATH = re.compile(r"[^\n\r]{0,4000}\.[A-Za-z0-9]{1,5}")
_IMAGE = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF|BM|II\*\0|MM\0\*|....ftyp", re.DOTALL)
_PLAIN = str.maketrans("-_", "+/", "\r\n")
_DATA = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)


def image_of(file: RawInput, value: Any, field: str) -> bytes:
    """Return the image that a cell holds or names; empty if there is none.

    Args:
        file: the table; paths are relative to its folder, that folder's parent, or ``images``.
        value: content of the cell.
        field: its column, for messages.

    Raises:
        OddRow: the image cannot be found, or the cell holds something else.
    """
    if value is None:
        return b""
    if isinstance(value, bytes):
        return _of_bytes(file, value, field)
    if isinstance(value, str):
        return _of_text(file, value, field)
    if isinstance(value, Mapping):
        return _of_struct(file, value, field)
    if isinstance(value, list | tuple):
        return _of_list(file, value, field)
    raise _odd(field, type_of(value))


def _odd(field: str, kind: str) -> OddRow:
    return OddRow("image_type", f"expected an image in {field!r} (bytes, a struct with bytes or path, or a path), got {kind}")


def _of_bytes(file: RawInput, value: bytes, field: str) -> bytes:
    if len(value) < MAX_PATH and value and b"\0" not in value:  # Spark writes strings as binary columns
        text = as_text(value)
        if text is not None and (_PATH.fullmatch(text.strip()) or _DATA.match(text)):
            return _of_text(file, text, field)
    return value


def _of_struct(file: RawInput, value: Mapping[str, Any], field: str) -> bytes:
    if not {"bytes", "path"} & value.keys():
        raise _odd(field, f"an object with the fields {', '.join(map(str, value))[:100]}")
    content, path = value.get("bytes"), value.get("path")
    if content:
        return image_of(file, content, f"{field}.bytes")
    return b"" if path is None else image_of(file, path, f"{field}.path")


def _of_list(file: RawInput, value: list[Any] | tuple[Any, ...], field: str) -> bytes:
    if not value:
        return b""
    if all(isinstance(item, int) for item in value):
        try:
            return bytes(value)
        except ValueError:
            raise _odd(field, "a list of numbers beyond 255") from None
    if len(value) == 1 and not isinstance(value[0], list | tuple):
        return image_of(file, value[0], field)
    if isinstance(value[0], list | tuple | float):
        raise _odd(field, "nested lists (pixels?); encode them as PNG or JPEG")
    # the caption describes them together, so a pair with one of them, or with each, would be wrong
    raise OddRow("several_images", f"expected one image in {field!r}, got {len(value)}; several make an interleaved document")


def _of_text(file: RawInput, value: str, field: str) -> bytes:
    text = value.strip()
    if not text:
        return b""
    if match := _DATA.match(text):
        return _of_data(match[0], text[match.end() :], field)
    if REMOTE.match(text):
        return file.read_adjacent(text)
    if not _PATH.fullmatch(text):
        content = _decode(text)
        if content is not None and (len(text) > MAX_SHORT or _IMAGE.match(content)):
            return content
    return _of_path(file, text, field)


def _of_data(head: str, content: str, field: str) -> bytes:
    data = _decode(content) if ";base64" in head.lower() else unquote_to_bytes(content)
    if data is None:
        raise _odd(field, "a data: address with damaged base64")
    return data


def _decode(text: str) -> bytes | None:
    """Decode base64 of either alphabet, with or without padding and line breaks; None if it is something else."""
    text = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _of_path(file: RawInput, text: str, field: str) -> bytes:
    if len(text) > MAX_PATH:
        raise _odd(field, f"a text of {len(text):,} characters that is neither a path nor base64")
    for path in dict.fromkeys((text, text.replace("\\", "/"))):
        if data := file.read_adjacent(path, FOLDERS) or _in_parent(file, path):
            return data
    raise OddRow(
        "image_path_missing",
        f"{field!r} holds paths, and {text[:100]!r} is not a file next to {file.name}, in its parent folder, or in images/; "
        "put the images there",
    )


def _in_parent(file: RawInput, path: str) -> bytes:
    """Read an image relative to the parent of the table's folder; empty if that is outside the source."""
    try:
        return file.read_adjacent(path, ("..",)) if "/" in file.name else b""
    except OddRow:
        return b""
