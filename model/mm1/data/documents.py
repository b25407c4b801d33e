"""From a sample to a document in tokens: ids, which of them bear loss, where the images stand.

Each text part is tokenised on its own, each image is ``image_tokens`` image tokens, the end is the end-of-document token.
Loss is on the texts of parts with ``loss`` and on the end, never on image tokens (MM1 2.2).

Names of dimensions: T tokens of a document, K images of it, P side of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm1.data.images import decode
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(slots=True)
class Document:
    """A sample in tokens, with its images decoded."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    """(T,) tokens, image tokens included."""
    loss: np.ndarray[Any, np.dtype[np.bool_]]
    """(T,) whether the model learns to predict it."""
    image_starts: np.ndarray[Any, np.dtype[np.int64]]
    """(K,) first token of each image."""
    images: list[Pixels]
    """K images (P, P, 3), in the order of their places."""

    def cut(self, start: int, stop: int) -> Document:
        """The stretch of tokens from ``start`` to ``stop``, with the images that begin in it."""
        inside_K = (self.image_starts >= start) & (self.image_starts < stop)
        return Document(
            ids=self.ids[start:stop],
            loss=self.loss[start:stop],
            image_starts=self.image_starts[inside_K] - start,
            images=[image for image, inside in zip(self.images, inside_K, strict=True) if inside],
        )


def build_documents(
    samples: Sequence[Sample], tokenizer: TextTokenizer, image_tokens: int, image_size_px: int
) -> list[Document | DataError]:
    """Tokenise and decode samples; a damaged one gives the error instead of the document.

    Args:
        samples: canonical samples with their images.
        tokenizer: the mixture's.
        image_tokens: tokens that stand for one image.
        image_size_px: side of the images that the model gets.
    """
    texts = iter(tokenizer.encode([text for sample in samples for text in sample.texts()]))
    documents: list[Document | DataError] = []
    for sample in samples:
        ids_of_parts = [None if isinstance(part, ImagePart) else next(texts) for part in sample.parts]
        try:
            documents.append(_build(sample, ids_of_parts, tokenizer, image_tokens, image_size_px))
        except DataError as error:
            documents.append(DataError(f"sample {sample.key} (from {sample.origin}): {error}"))
    return documents


def _build(
    sample: Sample, ids_of_parts: Sequence[list[int] | None], tokenizer: TextTokenizer, image_tokens: int, image_size_px: int
) -> Document:
    ids: list[int] = []
    loss: list[bool] = []
    starts: list[int] = []
    images: list[Pixels] = []
    for part, part_ids in zip(sample.parts, ids_of_parts, strict=True):
        if isinstance(part, ImagePart):
            starts.append(len(ids))
            ids += [tokenizer.image_id] * image_tokens
            loss += [False] * image_tokens
            images.append(decode(sample.images[part.image], image_size_px))
        elif part_ids and tokenizer.image_id in part_ids:
            raise DataError("its text holds the image token; ingest the data again, it takes such words out")
        elif part_ids:
            ids += part_ids
            loss += [part.loss] * len(part_ids)
    ids.append(tokenizer.eos_id)
    loss.append(True)
    return Document(np.asarray(ids, np.int32), np.asarray(loss, np.bool_), np.asarray(starts, np.int64), images)
