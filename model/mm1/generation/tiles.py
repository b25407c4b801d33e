"""Division of the images of a prompt into tiles, each of which is an image of the prompt (MM1 5). Torch-free.

    prompt, layout -> text segments of marks and `Tile`s in place of an image

A prompt is divided as a sample of the training is: all its images, or none if there are too many for the layout. If some are
given as `Detailed` images or as tiles, these alone are divided (mixed resolution, for the last demonstrations and the query).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as PillowImage

from mm1.data.images import open_image
from mm1.errors import ConfigurationError
from mm1.generation.images import bytes_of, key_of, read_tiles, reading
from mm1.generation.prompt import Image, Segment, TokenIds
from mm1.modeling.image_layout import ImageLayout, Tiles


@dataclass(frozen=True)
class Tile:
    """One tile of an image."""

    image: Image
    tiles: Tiles
    """All tiles of the image."""
    number: int
    """Its number among them, from 0."""

    def read_bytes(self) -> bytes:
        """Decode the image and encode this tile as PNG."""
        out = io.BytesIO()
        PillowImage.fromarray(read_tiles(self.image, self.tiles)[self.number]).save(out, format="PNG")
        return out.getvalue()

    def __str__(self) -> str:
        tiles = self.tiles
        return (
            f"{key_of(self.image)}, tile {self.number + 1} of {tiles.count}: "
            f"{tiles.rows} x {tiles.columns} of {tiles.side} px, overview {tiles.overview or 'none'}"
        )


@dataclass(frozen=True)
class Detailed:
    """An image to divide by the model's layout, however many images the prompt has."""

    image: Image

    def read_bytes(self) -> bytes:
        """Return the encoded image, for models that divide no images."""
        return bytes_of(self.image)

    def __str__(self) -> str:
        return key_of(self.image)


def static_tiles(image: Image, side_px: int) -> tuple[Tile, ...]:
    """Divide an image into an overview and four crops, for a model of any kind.

    Args:
        image: the image.
        side_px: side of a tile, that of the model's images.
    """
    tiles = ImageLayout("static").tiles(2 * side_px, 2 * side_px, side_px)
    return tuple(Tile(image, tiles, number) for number in range(tiles.count))


@dataclass(frozen=True)
class PromptDivision:
    """The division of the images of one prompt.

    Args:
        layout: layout of the model.
        side_px: side of a tile; 0 if the layout is single.
        divides: whether to divide images that are not given as detailed.
    """

    layout: ImageLayout
    side_px: int
    divides: bool

    @classmethod
    def of(cls, layout: ImageLayout, side_px: int, prompt: Sequence[Segment | TokenIds]) -> PromptDivision:
        """Decide on a whole prompt.

        Raises:
            ConfigurationError: an image is to be divided, but the layout is single.
        """
        images = [segment for segment in prompt if not isinstance(segment, str | TokenIds)]
        if layout.is_single and any(isinstance(image, Detailed) for image in images):
            raise ConfigurationError(
                "the model was trained without tiles, so no image can be divided by its layout: set the side of the parts, too "
                "(--sub-images)"
            )
        is_mixed = any(isinstance(image, Detailed | Tile) for image in images)
        return cls(layout, side_px, not is_mixed and bool(images) and layout.divides(len(images)))

    def divided(self, prompt: Sequence[Segment | TokenIds], first: int = 0) -> list[Segment | TokenIds]:
        """Replace the images of a part of the prompt by their tiles and marks.

        Args:
            prompt: the part.
            first: number of images before it.

        Raises:
            DataError: an image cannot be read.
        """
        if self.layout.is_single:
            return list(prompt)
        return list(self._divided(prompt, first))

    def _divided(self, prompt: Sequence[Segment | TokenIds], number: int) -> Iterator[Segment | TokenIds]:
        for segment in prompt:
            if isinstance(segment, str | TokenIds):
                yield segment
                continue
            if isinstance(segment, Detailed):
                yield from self._tiles(segment.image, number)
            elif self.divides:
                yield from self._tiles(segment, number)
            else:
                yield segment
            number += 1

    def _tiles(self, image: Image, number: int) -> Iterator[Segment]:
        with reading(image):
            width, height = open_image(bytes_of(image), max_pixels=None).size
        tiles = self.layout.tiles(width, height, self.side_px)
        count = 0
        for piece in tiles.pieces(number):
            if piece is None:
                yield Tile(image, tiles, count)
                count += 1
            else:
                yield piece


def allow_tiles(model: Any, processor: Any, max_tiles: int) -> None:
    """Change the maximum number of tiles of a model's layout for inference (MM1.5: 16 after training with 9).

    Args:
        model: an `MM1ForConditionalGeneration`.
        processor: its `MM1Processor`.
        max_tiles: maximum number of tiles of an image, without the overview; 0 = as in the training.

    Raises:
        ConfigurationError: the number of tiles of its layout is fixed, or an image would not fit the context.
    """
    if not max_tiles:
        return
    try:
        layout = processor.layout.with_max_tiles(max_tiles)
    except ValueError as error:
        raise ConfigurationError(f"max_tiles: {error}") from None
    context = getattr(model.config.text_config, "max_position_embeddings", None)
    marks = (len(processor.encode(mark)) for mark in layout.all_marks())
    of_tile = int(processor.image_tokens) + max(marks, default=0)
    tokens = layout.max_count * of_tile
    if context is not None and tokens >= context:
        raise ConfigurationError(
            f"max_tiles: an image of {max_tiles} tiles and an overview takes up to {tokens} tokens with their marks, but "
            f"the model's context has {context}: expected at most {(context - 1) // of_tile - 1}"
        )
    processor.image_layout = str(layout)


def count_images(prompt: Sequence[Segment | TokenIds]) -> int:
    """Count the images of a prompt; tiles are counted one by one."""
    return sum(not isinstance(segment, str | TokenIds) for segment in prompt)
