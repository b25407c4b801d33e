"""CIDEr-D, the caption metric of the paper's tables, in plain Python.

TF-IDF weighted n-gram similarity (n = 1 to 4) to the references, with clipped counts, a Gaussian penalty for different length
(sigma 6), times 10. Document frequencies come from the references of all images. The values equal those of the usual toolkit on
the same tokens, which are lower-case words without punctuation in this module.
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
    """Split a caption into lower-case words without punctuation."""
    return _WORD.findall(text.lower())


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute CIDEr-D of each caption.

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, at least one.

    Returns:
        One value per image, 0 to 10; the value of the corpus is their mean. With a single image the value is 0, because no
        word distinguishes images.
    """
    counted = [[_ngrams(text) for text in texts] for texts in references]
    frequency = Counter(ngram for texts in counted for ngram in set().union(*texts))
    log_images = math.log(len(references)) if references else 0.0
    weights = {ngram: log_images - math.log(count) for ngram, count in frequency.items()}
    scores = []
    for prediction, texts in zip(predictions, counted, strict=True):
        candidate = _ngrams(prediction)
        similarity = [_similarity(candidate, reference, weights, log_images) for reference in texts]
        scores.append(10.0 * sum(similarity) / len(similarity))
    return scores


def _ngrams(text: str) -> Counter[Ngram]:
    tokens = caption_words(text)
    return Counter(tuple(tokens[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(tokens) - n + 1))


def _similarity(candidate: Counter[Ngram], reference: Counter[Ngram], weights: dict[Ngram, float], unseen: float) -> float:
    products, candidate_norms, reference_norms = [0.0] * MAX_N, [0.0] * MAX_N, [0.0] * MAX_N
    for ngram, count in candidate.items():
        weight = weights.get(ngram, unseen)
        candidate_norms[len(ngram) - 1] += (count * weight) ** 2
        products[len(ngram) - 1] += min(count, reference[ngram]) * reference[ngram] * weight * weight
    for ngram, count in reference.items():
        reference_norms[len(ngram) - 1] += (count * weights[ngram]) ** 2
    # The toolkit measures lengths in bigrams.
    difference = _num_bigrams(candidate) - _num_bigrams(reference)
    penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
    total = 0.0
    for product, candidate_norm, reference_norm in zip(products, candidate_norms, reference_norms, strict=True):
        if candidate_norm and reference_norm:
            total += product / math.sqrt(candidate_norm * reference_norm) * penalty
    return total / MAX_N


def _num_bigrams(ngrams: Counter[Ngram]) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)
