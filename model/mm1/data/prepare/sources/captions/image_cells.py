"""The image of a caption row: what its cell holds or names, or why there is none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from mm1.data.prepare.files.images import MAX_NAME, PATH, read_image
from mm1.data.prepare.files.raw import REMOTE, OddRow, RawInput


def image_of(file: RawInput, value: Any, field: str) -> bytes:
    """Return the image that a cell holds or names (:func:`~.images.read_image`); empty if the cell is empty.

    Args:
        file: the table; paths are relative to its folder, that folder's ``images``, or its parent.
        value: content of the cell; a list of one image is that image.
        field: its column, for messages.

    Raises:
        OddRow: the image cannot be found, there are several, or the cell holds something else.
    """
    value = _single(value, field)
    try:
        data, name = read_image(file, value)
    except OddRow as odd:
        raise OddRow(odd.name, f"{field!r}: {odd.detail}") from None
    if not data and name and not REMOTE.match(name):
        data = _elsewhere(file, name)
        if not data:
            raise _missing(file, name, field)
    return data


def _single(value: Any, field: str) -> Any:
    """Return the only image of a list; a list of numbers is the bytes of one."""
    if not isinstance(value, list) or (value and isinstance(value[0], int)):
        return value
    if not value:
        return None
    if isinstance(value[0], list | float):
        raise OddRow("image_type", f"expected an image in {field!r}, got lists of numbers; encode the pixels as PNG or JPEG")
    if len(value) > 1:  # the caption describes them together, so a pair with one of them, or with each, would be wrong
        detail = f"expected one image in {field!r}, got {len(value)}; several make an interleaved document"
        raise OddRow("several_images", detail)
    return value[0]


def _elsewhere(file: RawInput, name: str) -> bytes:
    """Look a path up with other separators, and in the parent of the table's folder; empty if there is no such file."""
    for path in dict.fromkeys((name, name.replace("\\", "/"))):
        if path != name and (data := file.read_adjacent(path, ("", "images"))):
            return data
        with suppress(OddRow):  # the parent is outside the source
            if "/" in file.name and (data := file.read_adjacent(path, ("..",))):
                return data
    return b""


def _missing(file: RawInput, name: str, field: str) -> OddRow:
    if len(name) >= MAX_NAME and not PATH.fullmatch(name):
        return OddRow("image_type", f"expected an image in {field!r}, got a text that is neither a path nor an image in base64")
    return OddRow(
        "image_path_missing",
        f"{field!r} holds paths, and {name[:100]!r} is not a file next to {file.name}, in images/, or in the parent folder; "
        "put the images there",
    )
