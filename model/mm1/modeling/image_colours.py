"""Colours as people see them on a white page: images of every mode to RGB or grey of 8 bits.

    grey of 16 or 32 bits   scaled to 8 bits                (Pillow clips it: white)
    transparent             blended with a white page       (Pillow drops the transparency: usually black)
    others                  Pillow's conversion

Colour profiles are not applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

WHITE_16_BITS = 65_535
"""White of 16-bit samples: the full range (PNG 13.12, TIFF 6.0 p. 37), whatever part of it an image uses, as in browsers."""
WHITES_OF_INTEGERS = (255, WHITE_16_BITS)
"""Whites of integers in 32 bits, up to the type's maximum: files of 8 or 16 bits that a program stored as 32."""
WHITES_OF_FLOATS = (1, 255, WHITE_16_BITS)
"""Whites of floating-point samples: 1 as in scikit-image, matplotlib and ImageMagick, otherwise as for integers."""
HIGHLIGHTS = 2.0
"""Floating-point samples below this are still on the scale up to 1: its highlights are clipped."""
_WHITE_IS_ZERO, _PHOTOMETRIC, _SAMPLE_FORMAT, _UNSIGNED = 0, 262, 339, 1

BAND_PIXELS = 2**20
"""Number of pixels that are scaled at once."""

Values = np.ndarray[Any, np.dtype[Any]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_TO_8_BITS = np.rint(np.arange(WHITE_16_BITS + 1) / 257).astype(np.uint8)


def as_seen(image: Image.Image, png_depth: int | None = None) -> Image.Image:
    """Convert a decoded image to mode RGB or L.

    Args:
        image: image of any mode.
        png_depth: bits per sample of a PNG, in which its transparent colour is given.

    Raises:
        ValueError: Pillow cannot convert the mode.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_wide(image)
    if not image.has_transparency_data:
        target = "L" if image.mode in ("1", "L") else "RGB"
        return image if image.mode == target else image.convert(target)
    if png_depth is not None and "transparency" in image.info:
        image.info["transparency"] = _transparent_colour(image, png_depth)
    if image.mode == "La":  # not converted to RGBA directly
        image = image.convert("LA")
    return _on_white(image.convert("RGBA"))


def _on_white(image: Image.Image) -> Image.Image:
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image)
    return page


def _transparent_colour(image: Image.Image, depth: int) -> Any:
    """Convert a PNG's transparent colour to 8 bits, as Pillow converts its pixels. 16-bit colours lose their low bytes."""
    colour = image.info["transparency"]
    if image.mode == "L" and isinstance(colour, int):
        return (colour & (1 << depth) - 1) * 255 // ((1 << depth) - 1)
    if image.mode == "RGB" and isinstance(colour, tuple):
        return tuple(value >> 8 if depth == 16 else value & 255 for value in colour)
    return colour


def _from_wide(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to mode L."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    # Pillow has signed integers only
    unsigned = image.mode == "I" and tags.get(_SAMPLE_FORMAT, (0,))[0] == _UNSIGNED
    scale = _scale_16_bits if image.mode.startswith("I;16") else _Scale(_bands(image, unsigned))
    pixels_HW = np.concatenate([scale(band) for band in _bands(image, unsigned)])
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        np.subtract(255, pixels_HW, out=pixels_HW)
    if isinstance(transparent := image.info.get("transparency"), int):
        is_transparent = (band == transparent for band in _bands(image, unsigned))
        pixels_HW[np.concatenate([*is_transparent])] = 255
    return Image.fromarray(pixels_HW)


def _bands(image: Image.Image, unsigned: bool) -> Iterator[Values]:
    """Yield the values in bands of rows: the memory of an image's conversion does not grow with its size."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(image.height, top + rows))))
        yield values.view(np.uint32) if unsigned else values


def _scale_16_bits(values: Values) -> Bytes:
    return _TO_8_BITS[values]


class _Scale:
    """Scales integers of 32 bits or floating-point samples to 8 bits; NaN is black.

    White is the smallest of the usual whites that no value exceeds. Values below zero, or above all whites, have no usual
    scale: they are stretched from the smallest to the largest one.
    """

    def __init__(self, bands: Iterable[Values]) -> None:
        low, high, kind = np.inf, -np.inf, np.dtype(np.float32)
        for values in bands:
            finite, kind = values[np.isfinite(values)], values.dtype
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        self.black, self.white = _range(low, high, kind) if low <= high else (0.0, 1.0)

    def __call__(self, values: Values) -> Bytes:
        if self.black == self.white:  # a constant without a usual scale
            return np.zeros(values.shape, np.uint8)
        known = np.nan_to_num(values.astype(np.float64), nan=self.black, posinf=self.white, neginf=self.black)
        return np.rint(np.interp(known, (self.black, self.white), (0, 255))).astype(np.uint8)


def _range(low: float, high: float, kind: np.dtype[Any]) -> tuple[float, float]:
    """Choose the values of black and white."""
    if low < 0:
        return low, high
    if kind.kind == "f":
        whites: tuple[float, ...] = WHITES_OF_FLOATS
        if high < HIGHLIGHTS:
            return 0.0, 1.0
    else:
        whites = (*WHITES_OF_INTEGERS, float(np.iinfo(kind).max))
    return next(((0.0, float(white)) for white in whites if high <= white), (low, high))
