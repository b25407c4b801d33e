"""Reading of images for the processor: given in any form, shown as people see them, resized.

    path, URL, PIL image, array -> upright -> RGB of 8 bits on white -> resized

This file is also copied into exported models.
"""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps
from transformers.image_utils import load_image

from .image_colours import as_seen

ImageLike = Image.Image | np.ndarray
ImageInput = ImageLike | str | Path
UPRIGHT = 1
"""EXIF orientation of an image that is stored as it is seen."""


def each_image(images: Any) -> Iterator[ImageLike]:
    """Yield the images of a list of any depth; paths and URLs are opened."""
    if images is None:
        return
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from each_image(image)
    elif isinstance(images, (str, Path)):
        yield _opened(str(images))
    else:
        yield images


def _opened(image: str) -> Image.Image:
    """Open an image given as a path, as a data: URL or as an http(s) URL, as transformers' own processors do."""
    if image.startswith(("http://", "https://")):
        return load_image(image)
    if image.startswith("data:"):
        return Image.open(BytesIO(base64.b64decode(image.partition(",")[2])))
    return Image.open(image)


def upright(image: ImageLike) -> Image.Image:
    """Turn an image upright, as its EXIF orientation says; it stays as it is without one."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    image.load()  # Pillow turns TIFFs itself, and only now knows all metadata of a PNG
    turned = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT
    return ImageOps.exif_transpose(image) if turned else image  # which copies the image


def rgb(image: ImageLike) -> Image.Image:
    """Convert an image to RGB as people see it: upright, on white, greys of 16 and 32 bits scaled to 8."""
    seen = as_seen(upright(image))
    return seen if seen.mode == "RGB" else seen.convert("RGB")


def resized(image: ImageLike, size: tuple[int, int], resample: int) -> np.ndarray:
    """Resize an image to uint8 (height, width, 3).

    Args:
        image: PIL image of any mode, or array.
        size: height and width.
        resample: filter of Pillow.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (*size, 3):
        return image
    seen = as_seen(upright(image))
    if seen.size != size[::-1]:
        seen = seen.resize(size[::-1], resample=resample)
    return np.asarray(seen if seen.mode == "RGB" else seen.convert("RGB"))
