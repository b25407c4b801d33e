"""Fine marks: a detail of images from 64 pixels on that no reader can see at half their resolution.

A mark is a texture of 4 x 3 equal blocks in the lower right corner. A block has 2 x 2 bits, two light and two dark, on a
random grey; a bit is a 64th of the image's side. Vertical, horizontal or checkered, each with either half light, make six
textures. Blocks of random grey are around them. A texture does not change the mean of a block, so an image of 32 pixels shows
the greys alone; what filters such as bicubic carry from the texture to other pixels is far below the differences of the greys.
The letter of the tag, in contrast, is only blurred at 32 pixels.
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
MARK_ROWS, MARK_COLUMNS = (54, 56), (54, 56, 58)
"""Upper row and left column of a texture, in bits: even, so that a block is a pixel of an image of half the size."""
MARKS = ("1", "2", "3", "4", "5", "6")
"""Names of the marks in questions: words that every part of the world has."""
MARK_QUESTION = "what mark is it ?"

GREYS, CONTRAST = (0.3, 0.7), 0.3
"""Range of the blocks' greys, and the difference of a texture's bits from it."""

_BLOCKS = np.array([((1, -1), (1, -1)), ((1, 1), (-1, -1)), ((1, -1), (-1, 1))])
_TEXTURES = np.tile(np.concatenate((_BLOCKS, -_BLOCKS)), (1, 4, 3))
TEXTURES = np.pad(_TEXTURES, ((0, 0), (2, 2), (2, 2))).astype(np.float32) * CONTRAST
"""Differences from the greys of each mark with the blocks around it, 12 rows by 10 columns."""


def mark_of(scene: Scene) -> int:
    """Return the index of a scene's mark: a checksum of the scene, so that nothing else in the image tells it."""
    return (zlib.crc32(flat_values(scene)) >> 4) % len(MARKS)


def shows_marks(image_size_px: int) -> bool:
    """Whether images of a size have marks; in smaller ones they would be uniform patches."""
    return image_size_px >= MARK_SIDE_PX


def draw_marks(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw the marks of N scenes.

    Returns:
        Brightness 0 to 1, (N, 12, 10), and the upper rows and left columns, (N,), in bits.
    """
    count = len(scenes)
    greys = rng.uniform(*GREYS, (count, 6, 5)).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
    rows, columns = ((rng.choice(starts, count) - 2).astype(np.float32) for starts in (MARK_ROWS, MARK_COLUMNS))
    return greys + TEXTURES[[mark_of(scene) for scene in scenes]], rows, columns
