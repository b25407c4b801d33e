"""Similarity of items, for demonstrations that are similar to the query. Torch-free.

Items with images are compared by the cosine of their first images' features: the model's, or thumbnails if it has none. Items
of text are compared by the words and pairs of words that they share.

Names of dimensions: N images, D width of a feature.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from mm1.data.images import thumbnail
from mm1.evals.items import Item
from mm1.generation.images import read_image
from mm1.generation.prompt import Image

Embed = Callable[[Sequence[Image]], np.ndarray | None]
"""Images -> features (N, D); None if the model has none."""
_WORD = re.compile(r"\w+")


class Similarity:
    """Similarity of items; features are computed once per image.

    Args:
        embed: features of images; None: thumbnails.
    """

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed = embed
        self._features: dict[Image, np.ndarray] = {}
        self._ngrams: dict[str, frozenset[object]] = {}

    def most_similar(self, query: Item, pool: Sequence[Item], count: int) -> tuple[Item, ...]:
        """Return the most similar items of a pool, the most similar one last; of equal ones, the first ones in the pool."""
        scores = self._scores(query, pool)
        order = sorted(range(len(pool)), key=lambda index: (-scores[index], index))[:count]
        return tuple(pool[index] for index in reversed(order))

    def _scores(self, query: Item, pool: Sequence[Item]) -> Sequence[float]:
        if query.images and all(item.images for item in pool):
            self._prepare([item.images[0] for item in (query, *pool)])
            others_ND = np.array([self._features[item.images[0]] for item in pool]).reshape(len(pool), -1)
            return [float(score) for score in others_ND @ self._features[query.images[0]]] if pool else []
        return [_overlap(self._words(query.question), self._words(item.question)) for item in pool]

    def _prepare(self, images: Sequence[Image]) -> None:
        missing = list(dict.fromkeys(image for image in images if image not in self._features))
        if not missing:
            return
        embedded = self._embed(missing) if self._embed else None
        features_ND = np.array([_thumbnail(image) for image in missing]) if embedded is None else embedded.astype(np.float64)
        features_ND = features_ND / np.maximum(np.linalg.norm(features_ND, axis=1, keepdims=True), 1e-12)
        self._features.update(zip(missing, features_ND, strict=True))

    def _words(self, text: str) -> frozenset[object]:
        if text not in self._ngrams:
            unigrams = _WORD.findall(text.lower())
            self._ngrams[text] = frozenset([*unigrams, *pairwise(unigrams)])
        return self._ngrams[text]


def _overlap(some: frozenset[object], others: frozenset[object]) -> float:
    """Return the Jaccard index."""
    return len(some & others) / max(1, len(some | others))


def _thumbnail(image: Image) -> np.ndarray:
    """Compute the thumbnail of an image around its mean, so that the cosine does not measure brightness."""
    values_D = np.frombuffer(thumbnail(read_image(image)), dtype=np.uint8).astype(np.float64)
    return values_D - values_D.mean()
