"""``data:`` URLs as browsers and other servers read them (RFC 2397, WHATWG Fetch "data: URL processor").

    data:[media type][;parameters][;base64],data

Accepted beyond the RFC, because clients send it: white space and line breaks, missing padding and the URL-safe alphabet of
base64, any case of ``data`` and ``base64``, a missing or wrong media type (images are recognised by their first bytes).
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

SCHEME = "data:"
_IS_BASE64 = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_WHITE_SPACE = b" \t\r\n\f\v"
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


def is_data_url(url: str) -> bool:
    """Whether a URL holds its data."""
    return url[: len(SCHEME)].lower() == SCHEME


def data_of(url: str) -> bytes:
    """Decode a `data:` URL.

    Raises:
        ValueError: it has no comma, or damaged base64.
    """
    header, comma, text = url[len(SCHEME) :].partition(",")
    if not comma:
        raise ValueError("a data: URL needs a comma before its data (data:image/png;base64,...)")
    text = text.partition("#")[0]
    encoded = unquote_to_bytes(text) if "%" in text else text.encode()
    return _from_base64(encoded) if _IS_BASE64.search(header) else encoded


def _from_base64(encoded: bytes) -> bytes:
    digits = encoded.translate(_STANDARD_ALPHABET, _WHITE_SPACE).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_damage(digits)) from None


def _damage(digits: bytes) -> str:
    match = re.search(rb"[^A-Za-z0-9+/]", digits)
    if match:
        return f"the base64 data is damaged: unexpected character {chr(match[0][0])!r} at position {match.start()}"
    return f"the base64 data is damaged: {len(digits)} characters are not a whole number of bytes; is the end missing?"
