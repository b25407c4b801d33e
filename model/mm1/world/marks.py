r"""Fine marks: a detail of images from 64 pixels on that no reader can see at half their resolution.

A mark is a grid of 2 x 3 blocks of 2 x 2 bits in the lower right corner; a bit is a 64th of the image's side. Each block is a
diagonal stroke, ``\`` or ``/``, on a random grey, and a block of random grey is around it. Strokes do not change the mean of a
block, so an image of 32 pixels shows the greys alone; what filters such as bicubic carry from the strokes to other pixels is
far below the differences of the greys. The letter of the tag, in contrast, is only blurred at 32 pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mm1.world.config import MARK_SIDE_PX
from mm1.world.scene import Scene, flat_values

Floats = NDArray[np.float32]

MARK_GRID = 64
"""Number of bits along an image's side: bits are whole pixels in the smallest images with marks."""
MARK_ROWS, MARK_COLUMNS = (56, 58), (56, 58, 60)
"""Upper row and left column of a mark, in bits: even, so that blocks coincide with the pixels of an image of half the size."""
CODES = ("000000", "100110", "010101", "001011", "110011", "101101")
"""Directions of the strokes of each mark, row by row; any two marks differ in at least three."""
MARKS = ("1", "2", "3", "4", "5", "6")
"""Names of the marks in questions: words that every part of the world has."""
MARK_QUESTION = "what mark is it ?"

GREYS, STROKE = (0.3, 0.7), 0.3
"""Range of the blocks' greys, and the difference of a stroke's two bits from it."""

_DIRECTIONS = {"0": ((1, -1), (-1, 1)), "1": ((-1, 1), (1, -1))}
_BITS = np.array([[[_DIRECTIONS[code[2 * row + column]] for column in range(2)] for row in range(3)] for code in CODES])
STROKES = np.pad(_BITS.transpose(0, 1, 3, 2, 4).reshape(-1, 6, 4), ((0, 0), (2, 2), (2, 2))).astype(np.float32) * STROKE
"""Differences from the greys of each mark with the blocks around it, 10 rows by 8 columns."""


def mark_of(scene: Scene) -> int:
    """Return the index of a scene's mark: a checksum of the scene, so that nothing else in the image tells it."""
    return (zlib.crc32(flat_values(scene)) >> 4) % len(CODES)


def shows_marks(image_size_px: int) -> bool:
    """Whether images of a size have marks; in smaller ones they would be uniform patches."""
    return image_size_px >= MARK_SIDE_PX


def draw_marks(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw the marks of N scenes.

    Returns:
        Brightness 0 to 1, (N, 10, 8), and the upper rows and left columns, (N,), in bits.
    """
    count = len(scenes)
    greys = rng.uniform(*GREYS, (count, 5, 4)).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
    rows, columns = ((rng.choice(starts, count) - 2).astype(np.float32) for starts in (MARK_ROWS, MARK_COLUMNS))
    return greys + STROKES[[mark_of(scene) for scene in scenes]], rows, columns
