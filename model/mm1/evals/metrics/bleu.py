"""BLEU-1 to BLEU-4 of captions, as coco-caption computes them: one value for the corpus, closest reference length."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from mm1.evals.metrics.ptb import tokenize

MAX_N = 4
# coco-caption's constants: a corpus without a common n-gram scores almost 0 instead of undefined.
_SMALL, _TINY = 1e-9, 1e-15


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float, float, float]:
    """Compute BLEU-1, -2, -3 and -4 of a corpus, 0 to 1 (Papineni et al. 2002).

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, at least one.

    Raises:
        ValueError: the numbers of predictions and images differ.
    """
    predicted = [text.split() for text in tokenize(predictions)]
    words = iter([text.split() for text in tokenize(list(chain.from_iterable(references)))])
    matches, possible, length, reference_length = [0] * MAX_N, [0] * MAX_N, 0, 0
    for candidate, texts in zip(predicted, references, strict=True):
        targets = [next(words) for _ in texts]
        length += len(candidate)
        reference_length += min((abs(len(target) - len(candidate)), len(target)) for target in targets)[1]
        for n in range(1, MAX_N + 1):
            allowed: Counter[tuple[str, ...]] = Counter()
            for target in targets:
                allowed |= _ngrams(target, n)
            matches[n - 1] += (_ngrams(candidate, n) & allowed).total()
            possible[n - 1] += max(0, len(candidate) - n + 1)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, values = 1.0, []
    for n in range(1, MAX_N + 1):
        product *= (matches[n - 1] + _TINY) / (possible[n - 1] + _SMALL)
        values.append(product ** (1 / n) * brevity)
    return values[0], values[1], values[2], values[3]


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
