"""Reads values from a user's text: integers, numbers, lists, paths.

Python's own readers take more than a user means: ``int("٣")``, ``"²".isdigit()``, ``float("nan")``, ``Path("")``.
"""

from __future__ import annotations

import math
import re
import reprlib
from pathlib import Path

FILE_SCHEME = "file://"
MAX_DIGITS = 18
"""Digits of an integer at most, so that it fits 64 bits."""

_INTEGER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}")
_SIGNED = re.compile(rf"[-+]?{_INTEGER.pattern}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def parse_integer(text: str, *, signed: bool = False) -> int:
    """An integer in ASCII digits, such as ``20``.

    Args:
        text: what the user wrote.
        signed: whether it may carry a sign.

    Raises:
        ValueError: it is none, or has more than 18 digits.
    """
    if not (_SIGNED if signed else _INTEGER).fullmatch(text):
        raise ValueError(f"expected {integer_name(text)}, got {quoted(text)}")
    return int(text)


def integer_name(text: str) -> str:
    """What was expected in place of a text that is no integer; the limit is named only where it is the reason."""
    is_long = re.fullmatch(r"[-+]?[0-9]+", text) is not None
    return f"an integer of at most {MAX_DIGITS} digits" if is_long else "an integer"


def parse_number(text: str) -> float:
    """A finite number in ASCII digits, such as ``0.5``, ``.5`` or ``1e-3``.

    Raises:
        ValueError: it is none.
    """
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {quoted(text)}")
    return number


def local_path(text: str) -> Path:
    """The path that an address of this machine stands for: plain, with ``~``, or ``file:///folder``.

    Raises:
        ValueError: it stands for none, as an empty text does.
    """
    path = text.removeprefix(FILE_SCHEME)
    if not path or "\0" in path or (path != text and not path.startswith("/")):
        raise ValueError(f"expected a path or file:///folder, got {quoted(text)}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder for the ~ in {quoted(text)}") from None


def quoted(text: str) -> str:
    """A value as messages cite it: in quotes, and shortened where it is long."""
    return _REPR.repr(text)
