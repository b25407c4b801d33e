r"""Names of raw files: how they are shown, what they may be, and the files that are left out.

A name from the operating system or from an archive may hold bytes that are not UTF-8 and control characters. Manifests, keys
and messages hold its shown form (:func:`shown`), from which :func:`true_name` restores the name that opens the file.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from pathlib import PurePosixPath
from typing import NamedTuple

from mm1.config.values import quoted
from mm1.errors import DataError

LABEL_END = ":"
"""Last character of a name's first piece if the source has several addresses: ``cc12m:/00000.tar``."""
MAX_KEY_BYTES = 1024
"""Limit of S3 for an object's key."""

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control characters, surrogates, line and paragraph separators."""
_DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reorder the text around them in a terminal or browser."""
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


class LeftOut(NamedTuple):
    """A file that lies under an address and is not a raw file."""

    name: str
    """Shown form, relative to the root like :attr:`RawFile.name`."""
    num_bytes: int
    """Size; 0 if unknown, as for a folder."""
    reason: str
    """For people: ``hidden file``, ``hidden folder``, ``broken link``, ``link loop``, ``not a regular file``, ..."""


def shown(name: str) -> str:
    r"""Escape what cannot be encoded or printed in a name: ``caf\xe9``, ``a\x0ab``, ``\ud83d``; other names stay the same.

    Different names have different shown forms: a backslash that would read as the beginning of an escape is doubled.
    So do not apply this twice.

    Args:
        name: from the operating system (``surrogateescape``), an archive or JSON.
    """
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    pieces: list[str] = []
    for position, character in enumerate(name):
        escape = _escape(character)
        if not escape and character == "\\":
            following = name[position + 1 : position + 2]
            escape = "\\\\" if following in ("\\", "x", "u") or (following and _escape(following)) else ""
        pieces.append(escape or character)
    return "".join(pieces)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in _UNPRINTABLE or character in _DIRECTIONS:
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
    return ""


def true_name(name: str) -> str:
    """Return the name that :func:`shown` was given."""
    return _ESCAPE.sub(_unescape, name)


def _unescape(match: re.Match[str]) -> str:
    if match[1] == "\\":
        return "\\"
    code = int(match[1][1:], 16)
    return chr(code + 0xDC00 if match[1][0] == "x" and code >= 0x80 else code)


def is_plain(name: str) -> bool:
    """Whether a name is a relative path of ordinary pieces: not empty, not absolute, without ``.``, ``..``, ``//`` and NUL."""
    return "\0" not in name and not any(piece in ("", ".", "..") for piece in name.split("/"))


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden."""
    return any(piece.startswith(".") for piece in name.split("/"))


def is_key(name: str) -> bool:
    """Whether an object's key is a relative path that the client requests as it is."""
    try:
        return is_plain(name) and len(name.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def inside(folder: str, name: str, root: str) -> str:
    """Resolve a name relative to a folder in a root.

    Args:
        folder: folder of the file that holds the name, relative to the root.
        name: from a row of that file.
        root: address of the root, for the message.

    Raises:
        DataError: the name is absolute or points outside the root, or outside its address if the source has several.
    """
    plain = posixpath.normpath(posixpath.join(folder, name))
    label = folder.partition("/")[0]
    is_outside = label.endswith(LABEL_END) and plain.partition("/")[0] != label
    if is_outside or PurePosixPath(name).is_absolute() or plain.startswith("../") or plain == "..":
        raise DataError(f"{quoted(shown(name))} points outside {root}")
    return plain
