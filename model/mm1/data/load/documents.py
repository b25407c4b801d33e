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

from mm1.data.images import Pixels
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError


@dataclass(slots=True)
class Document:
    """A sample in tokens, with its images as they came; the collator decodes those that a span needs."""

    name: str
    """Key and raw file, for messages."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    """(T,) tokens, image tokens included."""
    loss: np.ndarray[Any, np.dtype[np.bool_]]
    """(T,) whether the model learns to predict it."""
    image_starts: np.ndarray[Any, np.dtype[np.int64]]
    """(K,) first token of each image."""
    images: list[bytes | Pixels | DataError]
    """K images in the order of their places: encoded, or decoded (P, P, 3) where documents are kept, or what was wrong."""

    def places(self, start: int, stop: int) -> range:
        """Which images begin between two tokens."""
        first, after = np.searchsorted(self.image_starts, (start, stop))
        return range(int(first), int(after))


def build_documents(samples: Sequence[Sample], tokenizer: TextTokenizer, image_tokens: int) -> list[Document | DataError]:
    """Tokenise samples; a damaged one gives the error instead of the document.

    Args:
        samples: canonical samples with their images.
        tokenizer: the mixture's.
        image_tokens: tokens that stand for one image.
    """
    texts = iter(tokenizer.encode([text for sample in samples for text in sample.texts()]))
    documents: list[Document | DataError] = []
    for sample in samples:
        ids_of_parts = [None if isinstance(part, ImagePart) else next(texts) for part in sample.parts]
        try:
            documents.append(_build(sample, ids_of_parts, tokenizer, image_tokens))
        except DataError as error:
            documents.append(DataError(f"sample {sample.key} (from {sample.origin}): {error}"))
    return documents


def _build(sample: Sample, ids_of_parts: Sequence[list[int] | None], tokenizer: TextTokenizer, image_tokens: int) -> Document:
    ids: list[int] = []
    loss: list[bool] = []
    starts: list[int] = []
    images: list[bytes | Pixels | DataError] = []
    for part, part_ids in zip(sample.parts, ids_of_parts, strict=True):
        if isinstance(part, ImagePart):
            starts.append(len(ids))
            ids += [tokenizer.image_id] * image_tokens
            loss += [False] * image_tokens
            images.append(sample.images[part.image])
        elif part_ids and tokenizer.image_id in part_ids:
            raise DataError("its text holds the image token; ingest the data again, it takes such words out")
        elif part_ids:
            ids += part_ids
            loss += [part.loss] * len(part_ids)
    ids.append(tokenizer.eos_id)
    loss.append(True)
    return Document(
        name=f"sample {sample.key} (from {sample.origin})",
        ids=np.asarray(ids, np.int32),
        loss=np.asarray(loss, np.bool_),
        image_starts=np.asarray(starts, np.int64),
        images=images,
    )
