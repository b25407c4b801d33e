"""Images: decoding encoded bytes to square RGB arrays.

    bytes -> format and size from the header (limits!) -> decode -> RGB -> bicubic resize to the model's side -> uint8 (S, S, 3)

As in MM1Processor, the aspect ratio is not preserved. Values stay uint8 until they are on the device
(:class:`mm1.data.load.collate.PixelNorm`).

Shape suffixes: P side in pixels.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from mm1.errors import DataError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SIMPLEJPEG_COLOURS = ("YCbCr", "Gray", "RGB")
"""JPEG colour spaces that simplejpeg converts to RGB."""
JPEG_MAGIC = b"\xff\xd8\xff"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Recognised encodings; the filter preset decides which ones are kept."""
MAX_PIXELS = 180_000_000
"""Hard limit for decoding: an image of a few kilobytes can unpack to gigabytes."""
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, AttributeError, Image.DecompressionBombError)
"""Exceptions of Pillow's decoders on damaged files."""
_MAGIC = ((JPEG_MAGIC, "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"))


def extension_of(data: bytes) -> str:
    """Detect the file extension of an encoded image from its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), "img")


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header without decoding the image.

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


def check_jpeg(data: bytes) -> tuple[int, int] | None:
    """Read a JPEG's width and height from its header; None for other formats and JPEGs that simplejpeg cannot decode."""
    if not data.startswith(JPEG_MAGIC):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if colours in SIMPLEJPEG_COLOURS else None


def detect_damage(data: bytes, image: Image.Image | None) -> Image.Image:
    """Decode an image once to detect damage, as cheaply as its format allows (JPEG at 1/8 scale).

    Args:
        data: encoded image.
        image: the image opened by Pillow; None for a JPEG recognised by :func:`check_jpeg`.

    Returns:
        The decoded image: smaller, and possibly grey.

    Raises:
        DataError: damaged or truncated image.
    """
    try:
        if image is None:
            # one channel at 1/8 scale: all entropy-coded data are read, which is enough to detect damage
            return Image.fromarray(simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)[:, :, 0])
        image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None
    return image


def difference_hash(image: Image.Image) -> int:
    """Compute a 64-bit difference hash: in a 9 x 8 grey version, whether each pixel is darker than its neighbour."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits_64 = (small[:, 1:] > small[:, :-1]).flatten()
    return int.from_bytes(np.packbits(bits_64).tobytes(), "big")


def decode(data: bytes, side_px: int) -> Pixels:
    """Decode an image into a new square array; see :func:`decode_into`."""
    pixels_PP3 = np.empty((side_px, side_px, 3), np.uint8)
    decode_into(data, pixels_PP3)
    return pixels_PP3


def decode_into(data: bytes, out_PP3: Pixels) -> None:
    """Decode an image into a square RGB array.

    Args:
        data: encoded image.
        out_PP3: output, uint8 (side, side, 3), contiguous.

    Raises:
        DataError: unreadable, damaged or too large image.
    """
    if data.startswith(JPEG_MAGIC) and _decode_jpeg_into(data, out_PP3):
        return
    side_px = len(out_PP3)
    image = open_image(data)
    try:
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (side_px, side_px):
            image = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
        out_PP3[:] = np.asarray(image)
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None


def _decode_jpeg_into(data: bytes, out_PP3: Pixels) -> bool:
    """Decode common JPEGs with simplejpeg; False if Pillow must decode the image."""
    side_px = len(out_PP3)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in SIMPLEJPEG_COLOURS or height * width > MAX_PIXELS:
            return False
        if height == width == side_px:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out_PP3)
            return True
        # decoded at reduced scale if that is still twice the target size: the difference is invisible after resizing
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=2 * side_px, min_width=2 * side_px)
    except ValueError:
        return False  # Pillow reports the error, or is more lenient
    out_PP3[:] = np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC, reducing_gap=2.0))
    return True
