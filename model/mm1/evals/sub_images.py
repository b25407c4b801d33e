"""An image as an overview and four crops of high resolution, which the model sees as five images (MM1 6.3).

The image is resized to twice the side of the model's images and cut into four; the overview comes first, then the crops
from the top left to the bottom right. In few-shot prompts, only the query and the last demonstrations are divided, so that
the prompt fits the context (mixed resolution, MM1 6.4).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from mm1.data.images import decode_image
from mm1.generation.images import bytes_of, key_of
from mm1.generation.prompt import Image

NUM_CROPS = 4


@dataclass(frozen=True)
class SubImage:
    """The overview (0) or a crop (1 to 4) of an image."""

    image: Image
    side_px: int
    number: int

    def read_bytes(self) -> bytes:
        """Decode the image and encode this part of it as PNG."""
        whole = decode_image(bytes_of(self.image))
        side = self.side_px
        if self.number == 0:
            part = whole.resize((side, side))
        else:
            row, column = divmod(self.number - 1, 2)
            box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
            part = whole.resize((2 * side, 2 * side)).crop(box)
        out = io.BytesIO()
        part.save(out, format="PNG")
        return out.getvalue()

    def __str__(self) -> str:
        return f"{key_of(self.image)}, part {self.number} at {self.side_px} px"


def divide(image: Image, side_px: int) -> tuple[SubImage, ...]:
    """Return the overview and the four crops of an image.

    Args:
        image: the image.
        side_px: side of the model's images in pixels.
    """
    return tuple(SubImage(image, side_px, number) for number in range(NUM_CROPS + 1))
