"""Words in the addresses of images, by which page decoration is recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

_LETTERS = re.compile(r"(?:[^\W\d_]|\ufffd)+")
"""A run of letters of any alphabet, or of bytes that are not UTF-8."""
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a new word starts in siteLogo and HTMLLogo."""


def decoration_in(address: str, decorations: Iterable[str]) -> str:
    """Return the first decoration that is a word of an image's address, or empty.

    Whole words of path and query count, in the singular and the plural: ``/icons/``, ``?file=siteLogo.png``, but neither
    ``lexicon`` nor ``iconic``. The host does not count: its name belongs to the site, not to the image. A ``data:`` address
    has no words.

    Args:
        address: URL or path.
        decorations: lower-case words in the singular.
    """
    if not address or address[:5].lower() == "data:":
        return ""
    runs = _LETTERS.findall(normalize("NFC", _after_host(address)))
    words = {word.lower() for run in runs for word in (run, *_HUMP.split(run))}
    return next((word for word in decorations if word in words or f"{word}s" in words), "")


def _after_host(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # such as an unfinished IPv6 address
        return unquote(address)
    return unquote(f"{parts.path}?{parts.query}" if parts.netloc else address)
