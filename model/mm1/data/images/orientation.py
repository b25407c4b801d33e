"""EXIF orientation: how to turn the stored pixels so that people see the image upright.

The rules are those of Pillow's ``ImageOps.exif_transpose``: the tag in EXIF, or else in XMP; values other than 1 to 8 and
damaged metadata are ignored. The tag of a JPEG is found without Pillow, so that JPEGs without one cost nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

UPRIGHT = 1
"""Orientation of an image that is stored as it is seen."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Turn of each EXIF orientation (EXIF 2.32, 4.6.4 A)."""
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_TAGS = (b"\x01\x12", b"\x12\x01")
_XMP_TAG = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}
"""JPEG markers without a segment."""
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9


def is_sideways(orientation: int) -> bool:
    """Whether turning the image upright swaps its width and height."""
    return orientation >= 5


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def stored_orientation(info: Mapping[Any, Any]) -> int:
    """Read the orientation from the metadata of an image opened by Pillow."""
    exif, xmp = info.get("exif", b""), info.get("xmp") or info.get("XML:com.adobe.xmp", b"")
    if not exif and (profile := info.get("Raw profile type exif")):
        exif = _from_profile(profile)
    return _orientation(exif, xmp.encode(errors="replace") if isinstance(xmp, str) else xmp)


def jpeg_orientation(data: bytes) -> int:
    """Read the orientation from the segments before a JPEG's first scan."""
    exif, xmp, position, end = b"", b"", 2, len(data) - 4
    while position < end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in _NO_LENGTH:
            position += 2
        elif marker in (_SCAN, _END):
            break
        else:
            stop = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if marker == _APP1:
                segment = data[position + 4 : stop]
                if segment.startswith(_EXIF):
                    exif += segment[len(_EXIF) :] if exif else segment
                elif segment.startswith(_XMP):
                    xmp = segment
            position = stop
    return _orientation(exif, xmp) if exif or xmp else UPRIGHT


def _orientation(exif: bytes, xmp: bytes) -> int:
    value = _from_exif(exif) if any(tag in exif for tag in _EXIF_TAGS) else None
    if value is None and (match := _XMP_TAG.search(xmp)):
        value = int(match[1])
    return value if isinstance(value, int) and value in TURNS else UPRIGHT


def _from_exif(data: bytes) -> Any:
    """Read the tag's value; None if it is missing or the EXIF is damaged."""
    exif = Image.Exif()
    try:
        exif.load(data)
        return exif.get(ExifTags.Base.Orientation)
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, struct.error):
        return None


def _from_profile(profile: Any) -> bytes:
    """Decode EXIF that ImageMagick stored in a PNG's text."""
    try:
        return bytes.fromhex("".join(str(profile).split("\n")[3:]))
    except ValueError:
        return b""
