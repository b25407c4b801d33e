"""Parsers for user input: integers, numbers, lists, paths.

Python's own parsers accept too much: ``int("٣")``, ``"²".isdigit()``, ``float("nan")``, ``Path("")``.
"""

from __future__ import annotations

import math
import re
import reprlib
from pathlib import Path

FILE_SCHEME = "file://"
MAX_DIGITS = 18
"""Maximum number of digits of an integer, so that it fits 64 bits."""

_INTEGER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}")
_SIGNED = re.compile(rf"[-+]?{_INTEGER.pattern}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NO_SLASHES = re.compile(r"(?i:file|s3):(?!//)")
"""An address whose scheme is not written as ``file://`` or ``s3://``; as a path, it would be a folder of that name."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def parse_integer(text: str, *, signed: bool = False) -> int:
    """Parse an integer in ASCII digits, such as ``20``.

    Args:
        text: the user's input.
        signed: whether a sign is allowed.

    Raises:
        ValueError: not an integer, or more than 18 digits.
    """
    if not (_SIGNED if signed else _INTEGER).fullmatch(text):
        raise ValueError(f"expected {integer_name(text)}, got {quoted(text)}")
    return int(text)


def integer_name(text: str) -> str:
    """Describe the expected value for error messages; the limit is mentioned only if the text exceeds it."""
    is_long = re.fullmatch(r"[-+]?[0-9]+", text) is not None
    return f"an integer of at most {MAX_DIGITS} digits" if is_long else "an integer"


def parse_number(text: str) -> float:
    """Parse a finite number in ASCII digits, such as ``0.5``, ``.5`` or ``1e-3``.

    Raises:
        ValueError: not a finite number.
    """
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {quoted(text)}")
    return number


def local_path(text: str) -> Path:
    """Convert a local address to a path: plain, with ``~``, or ``file:///folder``.

    What follows ``file://`` is the path as it is: it has no host, and ``?``, ``#`` and ``%`` have no meaning.

    Raises:
        ValueError: not a local path, for example an empty text, ``file://host/folder`` or ``file:folder``.
    """
    path = text.removeprefix(FILE_SCHEME)
    if not path or "\0" in path or (path != text and not path.startswith("/")) or _NO_SLASHES.match(text):
        raise ValueError(f"expected a path or file:///folder, got {quoted(text)}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"cannot expand ~ in {quoted(text)}: no home directory") from None


def quoted(text: str) -> str:
    """Quote a value for a message, abbreviated if it is long."""
    return _REPR.repr(text)
