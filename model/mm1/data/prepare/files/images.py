"""Images that rows contain or name, in all the forms in which they are found."""

from __future__ import annotations

import base64
import binascii
import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from mm1.data.prepare.files.raw import REMOTE, OddRow, RawInput
from mm1.data.prepare.files.values import as_text, encodable, type_of

FOLDERS = ("", "images")
"""Folders next to a file in which the images that its rows name are looked up."""
_DATA = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)
PATH = re.compile(r"[^\n\r]+\.[A-Za-z0-9]{1,5}\s*")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64}")
_MIN_INTEGERS = 16
MAX_NAME = 1024
"""Maximum length of a name or address."""
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOENT, errno.EILSEQ)
_NAMES = ("path", "url", "file_name", "image_url")


def read_image(file: RawInput, value: Any, folders: Sequence[str] = FOLDERS) -> tuple[bytes, str]:
    """Return the image in a cell or field, and its name or address (empty if it has none).

    The value is bytes, a structure with ``bytes`` or ``path`` (as Hugging Face datasets writes them), the name of a file next
    to the row's file, an address, a ``data:`` address, base64, or a list of byte values. The image is empty if there is none.

    Raises:
        OddRow: none of these, or a name that must not be read.
    """
    if value is None or value == "":
        return b"", ""
    if isinstance(value, bytes):
        text = _name_in_bytes(value)
        return _named(file, text, folders) if text else (value, "")
    if isinstance(value, Mapping) and ("bytes" in value or any(name in value for name in _NAMES)):
        name = next((value[name] for name in _NAMES if value.get(name)), None)
        if content := value.get("bytes"):
            data = decode_base64(content) if isinstance(content, str) else read_image(file, content, folders)[0]
            return data, address_of(name) if isinstance(name, str) else ""
        return read_image(file, name, folders)
    if isinstance(value, str):
        return _named(file, value, folders)
    if isinstance(value, list) and len(value) >= _MIN_INTEGERS and all(type(item) is int and 0 <= item < 256 for item in value):
        return bytes(value), ""
    raise OddRow("image_type", f"expected an image as bytes, {{bytes, path}} or a name, got {type_of(value)}")


def address_of(name: str) -> str:
    """Return a name or address as it is kept in a sample's metadata."""
    return encodable(name[:MAX_NAME])


def decode_base64(text: str) -> bytes:
    """Decode base64 in any of its forms: with line breaks, URL-safe, without padding, or in a ``data:`` address.

    Raises:
        OddRow: not base64.
    """
    text = _DATA.sub("", text, count=1) if _DATA.match(text) else text
    try:
        plain = b"".join(text.encode("ascii").split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise OddRow("image_not_base64", f"an image is not base64 ({type(error).__name__})") from None


def _name_in_bytes(value: bytes) -> str:
    """Return the name in a binary cell, in which Spark writes texts; empty if it holds an image."""
    text = as_text(value) if len(value) <= MAX_NAME and b"\0" not in value else None
    return text if text and (PATH.fullmatch(text) or REMOTE.match(text) or _DATA.match(text)) else ""


def _named(file: RawInput, name: str, folders: Sequence[str]) -> tuple[bytes, str]:
    """Read an image by its name, or decode it if the name is the image itself."""
    if match := _DATA.match(name):
        is_base64 = match[0].lower().rstrip(" ,").endswith("base64")
        return decode_base64(name) if is_base64 else unquote_to_bytes(name[match.end() :]), ""
    if _BASE64.match(name) and (data := _image_in_base64(name)):
        return data, ""
    address = address_of(name)
    if len(name) > MAX_NAME and not REMOTE.match(name):
        return b"", address
    try:
        return file.read_adjacent(name, folders), address
    except ValueError:  # NUL, or half a surrogate pair: no file has such a name
        return b"", address
    except OSError as error:
        if error.errno not in _NO_SUCH_NAME:
            raise
        return b"", address


def _image_in_base64(text: str) -> bytes:
    """Decode an image in base64; empty if the text is something else."""
    try:
        data = decode_base64(text)
    except OddRow:
        return b""
    return data if data.startswith(_MAGIC) or data[4:8] == b"ftyp" else b""
