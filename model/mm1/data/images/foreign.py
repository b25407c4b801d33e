"""Image formats that are not decoded, recognised by their first bytes, so that people are told what they have."""

from __future__ import annotations

import re

_XML = re.compile(rb"\s*(<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*", re.DOTALL)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}
_MAGIC = ((b"%PDF", "PDF"), (b"\x00\x00\x01\x00", "ICO"), (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"), (b"\xff\x0a", "JPEG XL"))
_HEAD_BYTES = 4096


def foreign_format(data: bytes) -> str:
    """Return the format of a file that is not decoded: SVG, AVIF, HEIC, PDF ...; empty if it is not recognised."""
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    markup = head[_XML.match(head).end() :][:5].lower()  # type: ignore[union-attr]
    if markup.startswith(b"<svg"):
        return "SVG"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "HEIF")
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")
