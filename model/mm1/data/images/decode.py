"""Decoding of encoded images: in full, to a square for the model, or small and cheaply for ingest.

Shape suffixes: H height, W width, P side in pixels, T tiles of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from mm1.data.images.header import DECODE_ERRORS, FORMATS, MAX_PIXELS, EncodedImage, open_by_pillow, open_image
from mm1.data.images.orientation import UPRIGHT, is_sideways, upright
from mm1.errors import DataError
from mm1.modeling.image_colours import as_seen
from mm1.modeling.image_layout import Tiles

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SMALL_SIDE = 48
"""Minimum length of both sides of a JPEG decoded at a smaller scale, in pixels."""
EIGHTHS = 8
"""JPEGs can be decoded at scales of 1/8 to 8/8."""


def decode(data: bytes, side_px: int) -> Pixels:
    """Decode an image into a new square array; see :func:`decode_into`."""
    pixels_PP3 = np.empty((side_px, side_px, 3), np.uint8)
    decode_into(data, pixels_PP3)
    return pixels_PP3


def decode_into(data: bytes, out_HW3: Pixels) -> None:
    """Decode an image into an RGB array of the model's size, upright and on white.

    Args:
        data: encoded image.
        out_HW3: output, uint8 (height, width, 3), contiguous.

    Raises:
        DataError: unreadable, damaged or too large image.
    """
    image = open_image(data)
    if image.picture is None and _decode_jpeg_into(image, out_HW3):
        return
    height, width = out_HW3.shape[:2]
    out_HW3[:] = np.asarray(_rgb(_resized(_decode_by_pillow(image), width, height)))


def decode_tiles(data: bytes, tiles: Tiles, out_TPP3: Pixels) -> None:
    """Decode an image once and cut it into its tiles.

    Args:
        data: encoded image.
        tiles: the division, made for the size in the image's header.
        out_TPP3: output, uint8 (tiles, side, side, 3), contiguous.

    Raises:
        DataError: unreadable, damaged or too large image.
    """
    if not tiles.rows:
        decode_into(data, out_TPP3[0])
        return
    for out_PP3, tile in zip(out_TPP3, tiles.cut(_decode_for(data, tiles.width, tiles.height)), strict=True):
        out_PP3[:] = np.asarray(tile)


def _decode_for(data: bytes, width: int, height: int) -> Image.Image:
    """Decode an image to be resized: a JPEG at a reduced scale if that is still twice the target size."""
    image = open_image(data)
    if image.picture is None:
        if is_sideways(image.orientation):
            height, width = width, height
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=2 * height, min_width=2 * width)
            return upright(Image.fromarray(pixels), image.orientation)
        except ValueError:
            pass  # Pillow reports the error, or is more lenient
    return _rgb(_decode_by_pillow(image))


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Decode an image in full size to RGB, upright and on white.

    Args:
        data: encoded image.
        max_pixels: maximum number of pixels.
        formats: accepted encodings, by Pillow's names.

    Raises:
        DataError: unreadable, damaged or too large image, or one of another format.
    """
    image = open_image(data, max_pixels, formats)
    if image.picture is None:
        try:
            return upright(Image.fromarray(simplejpeg.decode_jpeg(data, "RGB")), image.orientation)
        except ValueError:
            pass  # Pillow reports the error, or is more lenient
    return _rgb(_decode_by_pillow(image))


def decode_small(image: EncodedImage) -> Image.Image:
    """Decode an image once to detect damage, as cheaply as its format allows (JPEG at 1/8 scale, down to 48 pixels).

    Returns:
        The decoded image, upright and on white: smaller, and possibly grey.

    Raises:
        DataError: damaged or truncated image.
    """
    if image.picture is not None:
        width, height = image.stored_size
        image.picture.draft("RGB", (max(SMALL_SIDE, width // 8), max(SMALL_SIDE, height // 8)))
        return _decode_by_pillow(image)
    try:
        # at a small scale, too, all entropy-coded data are read, which is enough to detect damage
        pixels = simplejpeg.decode_jpeg(image.data, "RGB", min_height=SMALL_SIDE, min_width=SMALL_SIDE)
    except ValueError as error:
        raise DataError(f"unreadable image ({error})") from None
    return upright(_without_margin(Image.fromarray(pixels), image.stored_size), image.orientation)


def _without_margin(small: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Stretch an image decoded at a smaller scale: its last pixels reach beyond the edge unless the scale divides its size."""
    for eighths in range(1, EIGHTHS + 1):
        width, height = (side * eighths / EIGHTHS for side in size)
        if (math.ceil(width), math.ceil(height)) == small.size:
            whole = (width, height) == small.size
            return small if whole else small.resize(small.size, Image.Resampling.BILINEAR, box=(0, 0, width, height))
    return small


def _decode_jpeg_into(image: EncodedImage, out_HW3: Pixels) -> bool:
    """Decode a common JPEG with simplejpeg; False if Pillow must decode the image."""
    orientation = image.orientation
    height, width = out_HW3.shape[:2]
    if is_sideways(orientation):
        height, width = width, height
    try:
        if image.stored_size == (width, height) and orientation == UPRIGHT:
            simplejpeg.decode_jpeg(image.data, "RGB", buffer=out_HW3)
            return True
        # decoded at reduced scale if that is still twice the target size: the difference is invisible after resizing
        pixels = simplejpeg.decode_jpeg(image.data, "RGB", min_height=2 * height, min_width=2 * width)
    except ValueError:
        return False  # Pillow reports the error, or is more lenient
    out_HW3[:] = np.asarray(upright(_resized(Image.fromarray(pixels), width, height, reducing_gap=2.0), orientation))
    return True


def _decode_by_pillow(image: EncodedImage) -> Image.Image:
    """Decode the opened picture, at its draft's scale, to RGB or grey."""
    picture = image.picture or open_by_pillow(image.data, (image.form,))
    try:
        picture.load()
        # only now is all metadata known
        return upright(as_seen(picture, image.png_depth), image.orientation)
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _resized(image: Image.Image, width: int, height: int, reducing_gap: float | None = None) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=reducing_gap)
