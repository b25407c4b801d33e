"""CIDEr-D, the caption measure of the paper's tables, in plain Python.

TF-IDF weighted n-gram agreement (n = 1 to 4) with the references, clipped counts, a Gaussian penalty for another length
(sigma 6), times 10; document frequencies come from the references of all images. Values are those of the usual toolkit on the
same tokens; the tokens here are lower-case words without punctuation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

MAX_N = 4
SIGMA = 6.0
_WORD = re.compile(r"\w+(?:['’-]\w+)*")

Ngram = tuple[str, ...]


def caption_words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _WORD.findall(text.lower())


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption.

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, at least one.

    Returns:
        One value per image, 0 to 10; the corpus's value is their mean. With one image only all are 0, since no word
        tells images apart.
    """
    counted = [[_ngrams(text) for text in texts] for texts in references]
    frequency = Counter(ngram for texts in counted for ngram in set().union(*texts))
    log_images = math.log(len(references)) if references else 0.0
    weights = {ngram: log_images - math.log(count) for ngram, count in frequency.items()}
    scores = []
    for prediction, texts in zip(predictions, counted, strict=True):
        ours = _ngrams(prediction)
        similarity = [_similarity(ours, theirs, weights, log_images) for theirs in texts]
        scores.append(10.0 * sum(similarity) / len(similarity))
    return scores


def _ngrams(text: str) -> Counter[Ngram]:
    words = caption_words(text)
    return Counter(tuple(words[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(words) - n + 1))


def _similarity(ours: Counter[Ngram], theirs: Counter[Ngram], weights: dict[Ngram, float], unseen: float) -> float:
    products, our_norms, their_norms = [0.0] * MAX_N, [0.0] * MAX_N, [0.0] * MAX_N
    for ngram, count in ours.items():
        weight = weights.get(ngram, unseen)
        our_norms[len(ngram) - 1] += (count * weight) ** 2
        products[len(ngram) - 1] += min(count, theirs[ngram]) * theirs[ngram] * weight * weight
    for ngram, count in theirs.items():
        their_norms[len(ngram) - 1] += (count * weights[ngram]) ** 2
    # The toolkit measures lengths in bigrams.
    difference = sum(n for gram, n in ours.items() if len(gram) == 2) - sum(n for gram, n in theirs.items() if len(gram) == 2)
    penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
    total = 0.0
    for product, our_norm, their_norm in zip(products, our_norms, their_norms, strict=True):
        if our_norm and their_norm:
            total += product / math.sqrt(our_norm * their_norm) * penalty
    return total / MAX_N
