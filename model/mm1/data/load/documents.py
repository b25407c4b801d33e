"""Tokenisation of samples into documents: token IDs, loss mask, and image positions.

Each text part is tokenised separately, each tile of an image becomes ``image_tokens`` image tokens, and the end-of-document
token is appended. Loss is on the texts of parts with ``loss`` and on the last token, never on image tokens (as in MM1) or on
the marks between tiles.

Names of dimensions: T tokens of a document, K images of it, G tiles of an image, P side of a tile in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm1.data.images import Pixels
from mm1.data.load.image_tiles import ImageTiles
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError
from mm1.modeling.image_layout import Tiles


@dataclass(slots=True)
class Document:
    """A tokenised sample with its images, which are decoded by the collator when a span needs them."""

    name: str
    """Key and raw file, for messages."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    """(T,) token IDs, including image tokens."""
    loss: np.ndarray[Any, np.dtype[np.bool_]]
    """(T,) loss mask."""
    image_starts: np.ndarray[Any, np.dtype[np.int64]]
    """(K,) position of the first token of each image."""
    images: list[bytes | Pixels | DataError]
    """K images in order: encoded, decoded (G, P, P, 3) if documents are kept, or the error."""
    tiles: list[Tiles]
    """K divisions of the images into tiles."""

    def places(self, start: int, stop: int) -> range:
        """Find the indices of the images that start between two tokens."""
        first, after = np.searchsorted(self.image_starts, (start, stop))
        return range(int(first), int(after))


def build_documents(samples: Sequence[Sample], tokenizer: TextTokenizer, tiles: ImageTiles) -> list[Document | DataError]:
    """Tokenise samples; a damaged sample results in an error instead of a document.

    Args:
        samples: canonical samples with images.
        tokenizer: the mixture's tokenizer.
        tiles: the division of images.
    """
    texts = iter(tokenizer.encode([text for sample in samples for text in sample.texts()]))
    documents: list[Document | DataError] = []
    for sample in samples:
        ids_of_parts = [None if isinstance(part, ImagePart) else next(texts) for part in sample.parts]
        try:
            documents.append(_build(sample, ids_of_parts, tokenizer, tiles))
        except DataError as error:
            documents.append(DataError(f"sample {sample.key} (from {sample.origin}): {error}"))
    return documents


def _build(
    sample: Sample, ids_of_parts: Sequence[list[int] | None], tokenizer: TextTokenizer, image_tiles: ImageTiles
) -> Document:
    tiles = image_tiles.of_sample(sample)
    ids_of_images = [_image_ids(each, number, tokenizer, image_tiles.image_tokens) for number, each in enumerate(tiles)]
    length = 1 + sum(len(ids) for ids in (*ids_of_images, *ids_of_parts) if ids is not None)
    ids_T, loss_T = np.full(length, tokenizer.image_id, np.int32), np.zeros(length, np.bool_)
    end = 0
    starts: list[int] = []
    images: list[bytes | Pixels | DataError] = []
    for part, part_ids in zip(sample.parts, ids_of_parts, strict=True):
        if isinstance(part, ImagePart):
            image_ids = ids_of_images[len(starts)]
            starts.append(end)
            ids_T[end : end + len(image_ids)] = image_ids
            end += len(image_ids)
            images.append(sample.images[part.image])
        elif part_ids and tokenizer.image_id in part_ids:
            raise DataError("its text contains the image token; ingest the data again to remove it")
        elif part_ids:
            start, end = end, end + len(part_ids)
            ids_T[start:end], loss_T[start:end] = part_ids, part.loss
    ids_T[end], loss_T[end] = tokenizer.eos_id, True
    return Document(
        name=f"sample {sample.key} (from {sample.origin})",
        ids=ids_T,
        loss=loss_T,
        image_starts=np.asarray(starts, np.int64),
        images=images,
        tiles=tiles,
    )


def _image_ids(tiles: Tiles, number: int, tokenizer: TextTokenizer, image_tokens: int) -> list[int]:
    """Return the tokens of an image: its tiles, and the marks around them."""
    pieces = tiles.pieces(number)
    marks = iter(tokenizer.encode([piece for piece in pieces if piece is not None]))
    ids: list[int] = []
    for piece in pieces:
        ids += [tokenizer.image_id] * image_tokens if piece is None else next(marks)
    return ids
