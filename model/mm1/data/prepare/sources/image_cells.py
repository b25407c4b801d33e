"""The image of a caption row: what its cell holds or names, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mm1.data.prepare.sources.images import FOLDERS, read_image
from mm1.data.prepare.sources.raw import REMOTE, OddRow, RawInput
from mm1.data.prepare.sources.values import as_text

MAX_NAME = 1024
_PATH = re.compile(r"[^\n\r]*\.[A-Za-z0-9]{1,5}\s*|data:.*")


def image_of(file: RawInput, value: Any, field: str) -> bytes:
    """Return the image that a cell holds or names (:func:`~.images.read_image`); empty if the cell is.

    Args:
        file: the table; paths are relative to its folder, that folder's ``images``, or its parent.
        value: content of the cell; a list of one image is that image.
        field: its column, for messages.

    Raises:
        OddRow: the image cannot be found, there are several, or the cell holds something else.
    """
    value = _named_by_bytes(_single(value, field))
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), list):
        value = dict(value) | {"bytes": _single(value["bytes"], field)}
    folders = (*FOLDERS, "..") if "/" in file.name else FOLDERS
    try:
        data, name = read_image(file, value, folders)
        if not data and "\\" in name:
            data, _ = read_image(file, name.replace("\\", "/"), folders)
    except OddRow as odd:
        raise OddRow(odd.name, f"{field!r}: {odd.detail}") from None
    if data or not name or REMOTE.match(name):
        return data  # the filters count an image that could not be fetched
    if not _PATH.fullmatch(name) and len(name) >= MAX_NAME:
        raise OddRow("image_type", f"expected an image in {field!r}, got a long text that is neither a path nor base64")
    raise OddRow(
        "image_path_missing",
        f"{field!r} holds paths, and {name[:100]!r} is not a file next to {file.name}, in images/, or in the parent folder; "
        "put the images there",
    )


def _single(value: Any, field: str) -> Any:
    """Return the only image of a list; a list of numbers is the bytes of one."""
    if not isinstance(value, list) or (value and isinstance(value[0], int)):
        return value
    if len(value) > 1 and not isinstance(value[0], list | float):
        # the caption describes them together, so a pair with one of them, or with each, would be wrong
        detail = f"expected one image in {field!r}, got {len(value)}; several make an interleaved document"
        raise OddRow("several_images", detail)
    return None if not value else value[0] if not isinstance(value[0], list | float) else value


def _named_by_bytes(value: Any) -> Any:
    """Return the path in a binary cell, in which Spark writes texts; any other value as it is."""
    if isinstance(value, bytes) and 0 < len(value) < MAX_NAME and b"\0" not in value:
        text = as_text(value)
        return text if text and _PATH.fullmatch(text) else value
    return value
