"""Tiles of a mixture's images and their tokens, from the sizes in the indexes or in the images' headers.

    shard index -> tokens and tiles of each document      (for packing, which reads no images)
    sample      -> tiles of each image, ids of the marks  (for the document)

Names of dimensions: D documents of a shard, I images of a shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mm1.data.images import size_of
from mm1.data.reader import ShardIndex
from mm1.data.sample import IMAGE_PLACE, ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import ConfigurationError
from mm1.manifests import DataMix
from mm1.modeling.image_layout import ImageLayout, Tiles

Ints = np.ndarray[Any, np.dtype[np.int64]]


def layout_of(text: str) -> ImageLayout:
    """Parse the text form of a layout.

    Raises:
        ConfigurationError: it is not one.
    """
    try:
        return ImageLayout.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"image_layout: {error}") from None


def count_marks(layout: ImageLayout, tokenizer: TextTokenizer) -> dict[str, int]:
    """Count the tokens of each mark that a layout can have."""
    marks = layout.all_marks()
    return {mark: len(ids) for mark, ids in zip(marks, tokenizer.encode(marks), strict=True)}


class ImageTiles:
    """The division of a mixture's images.

    Args:
        layout: how images are divided.
        side_px: side of a tile, that of the model's images.
        image_tokens: tokens of a tile.
        mark_tokens: tokens of each mark.
    """

    def __init__(self, layout: ImageLayout, side_px: int, image_tokens: int, mark_tokens: dict[str, int] | None = None) -> None:
        self.layout = layout
        self.side_px = side_px
        self.image_tokens = image_tokens
        self.mark_tokens = mark_tokens or {}
        self._lengths: dict[ShardIndex, tuple[Ints, Ints]] = {}

    @classmethod
    def of(cls, mix: DataMix) -> ImageTiles:
        """Return the division of a mixture's images."""
        return cls(layout_of(mix.image_layout), mix.image_size_px, mix.image_tokens, mix.mark_tokens)

    def most(self) -> tuple[int, int]:
        """Return the maximum number of tokens and of tiles of an image."""
        count = self.layout.max_count
        marks = count * max(self.mark_tokens.values(), default=0)
        return count * self.image_tokens + marks, count

    def check(self, sequence_length: int, max_images: int) -> None:
        """Check that an image and a word fit into a sequence.

        Raises:
            ConfigurationError: they do not.
        """
        tokens, count = self.most()
        if tokens + 2 > sequence_length or count > max_images:
            raise ConfigurationError(
                f"image_layout: an image has up to {count} tiles with {tokens} tokens, but a sequence holds {max_images} tiles "
                f"(max_images) and {sequence_length} tokens: set max_images={max(count, max_images)} and sequence_length="
                f"{max(tokens + 2, sequence_length)} or more, or a smaller grid"
            )

    def of_sample(self, sample: Sample) -> list[Tiles]:
        """Return the tiles of the image of each image part."""
        numbers = [part.image for part in sample.parts if isinstance(part, ImagePart)]
        if not self.layout.divides(len(numbers)):
            return [Tiles(self.side_px)] * len(numbers)
        return [self._tiles(*size_of(sample.images[number]), len(numbers)) for number in numbers]

    def lengths(self, index: ShardIndex) -> tuple[Ints, Ints]:
        """Return the tokens (text, tiles and marks) and the number of tiles of each document of a shard, (D,) each."""
        images_D = index.num_images.astype(np.int64)
        if self.layout.is_single:
            return index.num_text_tokens + images_D * self.image_tokens, images_D
        if index in self._lengths:
            return self._lengths[index]
        tokens_I, tiles_I = self._images(index)
        document_I = np.repeat(np.arange(len(index)), images_D)
        tokens_D = np.bincount(document_I, tokens_I, len(index)).astype(np.int64)
        tiles_D = np.bincount(document_I, tiles_I, len(index)).astype(np.int64)
        self._lengths[index] = index.num_text_tokens + tokens_D, tiles_D
        return self._lengths[index]

    def images(self, index: ShardIndex, row: int) -> list[tuple[int, int]]:
        """Return the tokens (tiles and marks) and the number of tiles of each image of a document."""
        number = int(index.num_images[row])
        if not self.layout.divides(number):
            return [(self.image_tokens, 1)] * number
        sizes, starts = index.image_sizes
        rows = sizes[starts[row] : starts[row] + number].tolist()
        return [self._size(image, self._tiles(size[0], size[1], number)) for image, size in enumerate(rows)]

    def _images(self, index: ShardIndex) -> tuple[Ints, Ints]:
        """Return the tokens and the number of tiles of each image of a shard, (I,) each."""
        sizes_I2, starts_D = index.image_sizes
        images_D = index.num_images.astype(np.int64)
        images_I = np.repeat(images_D, images_D)
        position_I = np.arange(len(sizes_I2)) - np.repeat(starts_D, images_D)
        divided_I = images_I <= self.layout.max_images
        kind_I = np.zeros(len(sizes_I2), np.int64)  # a kind has one number of tiles and of tokens
        grid_I = self.layout.kinds(sizes_I2[divided_I, 0], sizes_I2[divided_I, 1], self.side_px)
        kind_I[divided_I] = 1 + grid_I * self.layout.max_images + position_I[divided_I]
        _, first, which_I = np.unique(kind_I, return_index=True, return_inverse=True)
        examples = np.column_stack([position_I, sizes_I2, images_I])[first].tolist()
        counts = [self._size(position, self._tiles(width, height, number)) for position, width, height, number in examples]
        tokens, tiles = np.asarray(counts, np.int64).reshape(-1, 2).T
        return tokens[which_I], tiles[which_I]

    def _tiles(self, width: int, height: int, num_images: int) -> Tiles:
        return self.layout.tiles(width, height, self.side_px, num_images)

    def _size(self, image: int, tiles: Tiles) -> tuple[int, int]:
        marks = sum(self.mark_tokens[piece] for piece in tiles.pieces(image) if piece is not None)
        return tiles.count * self.image_tokens + marks, tiles.count


def part_lengths(parts: Sequence[int], images: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return tokens and tiles of each part of a document.

    Args:
        parts: tokens of each text part, -1 for an image.
        images: tokens and tiles of each image.
    """
    of_images = iter(images)
    return [next(of_images) if count == IMAGE_PLACE else (count, 0) for count in parts]
