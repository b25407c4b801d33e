"""Images: from encoded bytes to square RGB arrays.

    bytes -> format and size from the header (limits!) -> decode -> RGB -> bicubic resize to the model's side -> uint8 (S, S, 3)

Aspect ratio is not kept, as in MM1Processor: the model gets squares. Values are normalised in the collator.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mm1.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Encodings that are recognised; which of them stay is the filter preset's choice."""
MAX_PIXELS = 180_000_000
"""Never decode more: an image of a few kilobytes can unpack to gigabytes."""
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, AttributeError, Image.DecompressionBombError)
"""What Pillow's decoders raise on damaged files."""
_MAGIC = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"))


def extension_of(data: bytes) -> str:
    """File extension of an encoded image, from its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), "img")


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header; nothing is decoded yet.

    Raises:
        DataError: not an image, or more pixels than ``max_pixels``.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError("unreadable image (of no known format, or damaged in its first bytes)") from None
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None
    if image.width * image.height > max_pixels:
        raise DataError(f"image of {image.width} x {image.height} pixels, more than {max_pixels} are not decoded")
    return image


def check_decodes(image: Image.Image) -> None:
    """Decode an opened image once, as cheaply as its format allows (JPEG at an eighth), to find damage.

    Raises:
        DataError: it is damaged or truncated.
    """
    try:
        image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None


def decode(data: bytes, side_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode an image into a square.

    Args:
        data: encoded image.
        side_px: side of the square in pixels.

    Returns:
        uint8 (side_px, side_px, 3), RGB.

    Raises:
        DataError: unreadable, damaged or too large.
    """
    image = open_image(data)
    try:
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (side_px, side_px):
            image = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
        return np.asarray(image)
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None
