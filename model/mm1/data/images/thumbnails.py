"""Thumbnails for finding images that look the same: 72 bytes per image, compared in pairs by the thousand.

    image -> 8 x 8 luma and 2 x 2 of both chroma channels -> two thumbnails -> near, or not

Two thumbnails are near if a change of brightness and contrast and a small shift (a crop, another scaling) explain all of their
difference. How much difference is allowed depends on how much the picture shows. Photos of different things do not look the
same by chance in a whole thumbnail, so they may differ more. Drawings on an even background often differ in a small sign only
(the hand of a clock, the mouth of a face), so they must be almost equal. Pictures that show too little at this size, such as a
small symbol on a page, are never near.

Shape suffixes: N pairs, S side of the luma, B bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LUMA_SIDE, CHROMA_SIDE = 8, 2
THUMBNAIL_BYTES = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
EDGE = 4
"""Maximum difference of two neighbouring luma values that are considered even, of 255 levels."""
MIN_DETAIL, PHOTO_DETAIL = 0.15, 0.8
"""Minimum fraction of uneven neighbours in a picture that can be compared, and in one that fills its frame, as photos do."""
MAX_CONTRAST, MAX_BRIGHTNESS = 4 / 3, 48
"""Maximum change of contrast (factor) and of brightness (levels)."""

Thumbnails = NDArray[np.uint8]
Values = NDArray[np.float64]


class Tolerance(NamedTuple):
    """Maximum difference between two thumbnails."""

    spread: float
    """Of a luma value, as a fraction of the standard deviation of all."""
    levels: float
    """Upper limit of the same, of 255 levels."""
    shift: float
    """Additional difference, as a fraction of the steepest step to a neighbour: how far edges may be shifted, in pixels."""
    chroma: float
    """Of a chroma value, of 255 levels."""


DRAWING = Tolerance(spread=0.1, levels=6, shift=0.1, chroma=6)
PHOTO = Tolerance(spread=0.2, levels=12, shift=0.5, chroma=12)
"""Chosen on 7,322 drawings and photos, with changed copies and with other pictures of the same caption."""
_SQUARE_SIDE = 64
_MIN_LEVELS = 1.0
_RIDGE = LUMA_SIDE**2
"""Keeps the contrast of a flat luma: the weight of one level per value."""


def thumbnail(image: Image.Image) -> bytes:
    """Compute the thumbnail of an RGB or grey image: luma, row by row, then the blue and the red chroma."""
    # first to a larger square: the filter blurs across its pixels, and the means of whole pixels are exact
    square = image.convert("RGB").resize((_SQUARE_SIDE, _SQUARE_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    luma, *chroma = square.convert("YCbCr").split()
    channels = [luma.reduce(_SQUARE_SIDE // LUMA_SIDE), *(channel.reduce(_SQUARE_SIDE // CHROMA_SIDE) for channel in chroma)]
    return b"".join(channel.tobytes() for channel in channels)


def contrast(image: Image.Image) -> int:
    """Return the range of the channel with the largest one, of 255 levels: 0 for an image of one colour."""
    extrema: Any = image.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else [extrema]
    return int(max(high - low for low, high in ranges))


def are_near(earlier_NB: Thumbnails, later_NB: Thumbnails) -> NDArray[np.bool_]:
    """Compare thumbnails pair by pair; the result does not depend on the other pairs.

    Args:
        earlier_NB: thumbnails, uint8 (pairs, 72).
        later_NB: the same for the other image of each pair.

    Returns:
        Whether the images of a pair look the same (pairs).
    """
    (earlier_NSS, earlier_chroma), (later_NSS, later_chroma) = _channels(earlier_NB), _channels(later_NB)
    spread = np.minimum(earlier_NSS.std(axis=(1, 2)), later_NSS.std(axis=(1, 2)))
    detail = np.minimum(_detail(earlier_NSS), _detail(later_NSS))
    contrast, rest_NSS = _fitted(earlier_NSS, later_NSS)
    chroma = np.abs(later_chroma - contrast[:, None] * earlier_chroma).max(axis=1)
    steps_NSS = np.minimum(_steps(earlier_NSS), _steps(later_NSS))

    def within(tolerance: Tolerance) -> NDArray[np.bool_]:
        rest = (np.abs(rest_NSS) - tolerance.shift * steps_NSS).max(axis=(1, 2))
        return (rest <= np.clip(tolerance.spread * spread, _MIN_LEVELS, tolerance.levels)) & (chroma <= tolerance.chroma)

    return (detail >= MIN_DETAIL) & np.where(detail >= PHOTO_DETAIL, within(PHOTO), within(DRAWING))


def _channels(thumbnails_NB: Thumbnails) -> tuple[Values, Values]:
    """Return luma (pairs, side, side) and chroma (pairs, 8) around 0."""
    luma, chroma = np.split(thumbnails_NB.astype(np.float64), [LUMA_SIDE**2], axis=1)
    return luma.reshape(-1, LUMA_SIDE, LUMA_SIDE), chroma - 128


def _fitted(earlier_NSS: Values, later_NSS: Values) -> tuple[Values, Values]:
    """Fit contrast and brightness by least squares; return the contrast (pairs), and what they do not explain."""
    means = earlier_NSS.mean(axis=(1, 2)), later_NSS.mean(axis=(1, 2))
    deviations_NSS = earlier_NSS - means[0][:, None, None]
    products = (deviations_NSS * (later_NSS - means[1][:, None, None])).sum(axis=(1, 2))
    contrast = (products + _RIDGE) / ((deviations_NSS**2).sum(axis=(1, 2)) + _RIDGE)
    contrast = np.clip(contrast, 1 / MAX_CONTRAST, MAX_CONTRAST)
    brightness = np.clip(means[1] - contrast * means[0], -MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    return contrast, later_NSS - contrast[:, None, None] * earlier_NSS - brightness[:, None, None]


def _detail(luma_NSS: Values) -> Values:
    """Return the fraction of neighbours that are uneven (pairs)."""
    across, down = (np.abs(np.diff(luma_NSS, axis=axis)) > EDGE for axis in (2, 1))
    return (across.sum(axis=(1, 2)) + down.sum(axis=(1, 2))) / (2 * LUMA_SIDE * (LUMA_SIDE - 1))


def _steps(luma_NSS: Values) -> Values:
    """Return the largest difference of each value from one of its four neighbours (pairs, side, side)."""
    padded = np.pad(luma_NSS, ((0, 0), (1, 1), (1, 1)), mode="edge")
    inner: Any = slice(1, -1)
    neighbours = padded[:, :-2, inner], padded[:, 2:, inner], padded[:, inner, :-2], padded[:, inner, 2:]
    return np.max([np.abs(neighbour - luma_NSS) for neighbour in neighbours], axis=0)
