"""Images of documents and conversations, of which a row may have several: bytes with the name or address of each."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from mm1.data.prepare.sources.image_cells import image_of
from mm1.data.prepare.sources.raw import REMOTE, OddRow, RawInput
from mm1.data.prepare.sources.values import encodable

MAX_ADDRESS = 1024
"""Maximum length of an address in a sample's metadata, in characters."""
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOENT, errno.EILSEQ)


def read_image(file: RawInput, value: Any, field: str) -> tuple[bytes, str]:
    """Return an image and its name or address (empty if it has none).

    The image is empty if there is none, or if no file has its name: the filters count it as missing.

    Args:
        file: the file of the row.
        value: the image, in any of the forms of :func:`~mm1.data.prepare.sources.image_cells.image_of`.
        field: its field, for messages.

    Raises:
        OddRow: none of these forms, or a name that must not be read.
    """
    address = address_of(value)
    try:
        return image_of(file, value, field), address
    except OddRow as odd:
        if odd.name != "image_path_missing":
            raise
    except ValueError:  # NUL, or half a surrogate pair: no file has such a name
        pass
    except OSError as error:
        if error.errno not in _NO_SUCH_NAME:
            raise
    return b"", address


def address_of(value: Any) -> str:
    """Return the name or address in a cell, as it is kept in a sample's metadata; empty if the cell holds the image itself."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str) or value[:5].lower() == "data:":
        return ""
    return "" if len(value) > MAX_ADDRESS and not REMOTE.match(value) else encodable(value[:MAX_ADDRESS])
