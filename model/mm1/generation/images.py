"""Images of prompts: their bytes, their names, and their pixels. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image as PillowImage

from mm1.data.images import Pixels, decode_image, decode_into, decode_tiles
from mm1.errors import DataError
from mm1.generation.prompt import Image
from mm1.modeling.image_layout import Tiles


def bytes_of(image: Image) -> bytes:
    """Return the encoded image."""
    return image if isinstance(image, bytes) else image.read_bytes()


def key_of(image: Image) -> str:
    """Return a name of an image: equal names, equal images."""
    return hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else str(image)


@contextmanager
def reading(image: Image) -> Iterator[None]:
    """Name the image in errors of the body.

    Raises:
        DataError: the body cannot read the image.
    """
    try:
        yield
    except (OSError, DataError) as error:
        name = f"of {len(image)} bytes" if isinstance(image, bytes) else str(image)
        raise DataError(f"image {name} cannot be read: {error}") from None


def read_image(image: Image) -> PillowImage.Image:
    """Decode an image in full size to RGB, as people see it: upright, and on white.

    Raises:
        DataError: the image cannot be read.
    """
    with reading(image):
        return decode_image(bytes_of(image))


def read_tiles(image: Image, tiles: Tiles) -> Pixels:
    """Decode an image as the loader does and cut it into its tiles, to uint8 (tiles, side, side, 3).

    Raises:
        DataError: the image cannot be read.
    """
    pixels_TPP3 = np.empty((tiles.count, tiles.side, tiles.side, 3), np.uint8)
    with reading(image):
        decode_tiles(bytes_of(image), tiles, pixels_TPP3)
    return pixels_TPP3


def read_pixels(image: Image, height: int, width: int) -> Pixels:
    """Decode an image as the loader does, to uint8 (height, width, 3).

    Raises:
        DataError: the image cannot be read.
    """
    pixels_HW3 = np.empty((height, width, 3), np.uint8)
    with reading(image):
        decode_into(bytes_of(image), pixels_HW3)
    return pixels_HW3
