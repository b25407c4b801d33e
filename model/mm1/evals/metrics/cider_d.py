"""CIDEr-D, the caption metric of the paper's tables.

TF-IDF weighted n-gram similarity (n = 1 to 4) to the references, with clipped counts, a Gaussian penalty for a different length
(sigma 6), times 10 (Vedantam et al. 2015; coco-caption). Tokens: `ptb.py`.

    N captions (the predictions first, then all references), E entries: one per n-gram of a caption
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from mm1.evals.metrics.ptb import tokenize

MAX_N = 4
SIGMA = 6.0
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute CIDEr-D of each caption; document frequencies are those of the given references, as in coco-caption.

    Published values have those of all images of the split (5,000 of Karpathy's test).

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, at least one.

    Returns:
        One value per image, 0 to 10; the value of the corpus is their mean. With a single image the value is 0, because no word
        distinguishes images.

    Raises:
        ValueError: the numbers of predictions and images differ, or an image has no reference.
    """
    if len(predictions) != len(references):
        raise ValueError(f"expected one prediction per image, got {len(predictions)} for {len(references)} images")
    if not all(references):
        raise ValueError(f"image {[bool(texts) for texts in references].index(False)} has no reference caption")
    if not predictions:
        return []
    per_image = np.array([len(texts) for texts in references])
    image_N = np.concatenate([np.arange(len(references)), np.repeat(np.arange(len(references)), per_image)])
    texts = [*_words(predictions), *_words(chain.from_iterable(references))]
    captions = _Captions(texts, image_N, len(references))
    similarity_N = sum((captions.similarity(n) for n in range(1, MAX_N + 1)), np.zeros(len(texts))) / MAX_N
    total = np.bincount(image_N[len(references) :], similarity_N[len(references) :], len(references))
    scores: list[float] = (10.0 * total / per_image).tolist()
    return scores


def _words(captions: Iterable[str]) -> list[list[str]]:
    return [text.split() for text in tokenize(list(captions))]


class _Captions:
    """All captions as numbers; n-grams become numbers too, one length after the other."""

    def __init__(self, texts: list[list[str]], image_N: _Ints, num_images: int) -> None:
        self._vocabulary: dict[str, int] = {}
        numbers = [self._vocabulary.setdefault(word, len(self._vocabulary)) for words in texts for word in words]
        self._words = np.array(numbers, dtype=np.int64)
        self._length_N = np.array([len(words) for words in texts])
        self._caption = np.repeat(np.arange(len(texts)), self._length_N)
        self._image_N, self._num_images = image_N, num_images
        self._ngrams = np.zeros(len(self._words), dtype=np.int64)
        """Number of the n-gram that starts at each word, of the length counted last."""

    def similarity(self, n: int) -> _Floats:
        """Compute the similarity of each reference to its prediction in n-grams; call it for n = 1, 2, ... in turn."""
        caption_E, ngram_E, count_E = self._count(n)
        value_E = count_E * self._weights(caption_E, ngram_E)[ngram_E]
        norm_N = np.sqrt(np.bincount(caption_E, value_E**2, len(self._image_N)))
        num_ngrams = ngram_E.max(initial=0) + 1
        key_E = self._image_N[caption_E] * num_ngrams + ngram_E
        predicted = np.searchsorted(caption_E, self._num_images)
        product_N = np.zeros(len(self._image_N))
        if predicted:
            # Entries are sorted by caption, then n-gram; so are the keys of the predictions.
            match_E = np.minimum(np.searchsorted(key_E[:predicted], key_E[predicted:]), predicted - 1)
            common_E = np.where(key_E[match_E] == key_E[predicted:], np.minimum(value_E[match_E], value_E[predicted:]), 0.0)
            product_N += np.bincount(caption_E[predicted:], common_E * value_E[predicted:], len(self._image_N))
        norms_N = norm_N * norm_N[self._image_N]
        return np.divide(product_N, norms_N, out=np.zeros_like(norms_N), where=norms_N > 0) * self._penalty()

    def _penalty(self) -> _Floats:
        """Compute the penalty of different lengths, which the toolkit measures in bigrams."""
        bigrams_N = np.maximum(self._length_N - 1, 0)
        penalty: _Floats = np.exp(-((bigrams_N - bigrams_N[self._image_N]) ** 2) / (2 * SIGMA**2))
        return penalty

    def _count(self, n: int) -> tuple[_Ints, _Ints, _Ints]:
        """Count n-grams: caption, n-gram and count of each entry, sorted."""
        if n > 1:
            inside = self._caption[n - 1 :] == self._caption[: -(n - 1)]
            starts, ends = np.flatnonzero(inside), np.flatnonzero(inside) + n - 1
        else:
            starts = ends = np.arange(len(self._words), dtype=np.int64)
        pairs = self._ngrams[starts] * len(self._vocabulary) + self._words[ends]
        unique, ngrams = np.unique(pairs, return_inverse=True)
        self._ngrams = np.zeros(len(self._words), dtype=np.int64)
        self._ngrams[starts] = ngrams
        entries, counts = np.unique(self._caption[starts] * max(len(unique), 1) + ngrams, return_counts=True)
        caption_E, ngram_E = np.divmod(entries, max(len(unique), 1))
        return caption_E, ngram_E, counts

    def _weights(self, caption_E: _Ints, ngram_E: _Ints) -> _Floats:
        """Compute the inverse document frequency of each n-gram."""
        num_ngrams = ngram_E.max(initial=0) + 1
        in_reference = caption_E >= self._num_images
        pairs = np.unique(self._image_N[caption_E[in_reference]] * num_ngrams + ngram_E[in_reference])
        counts = np.bincount(pairs % num_ngrams, minlength=num_ngrams).astype(np.float64)
        weights: _Floats = np.log(max(self._num_images, 1)) - np.log(np.maximum(counts, 1.0))
        return weights
