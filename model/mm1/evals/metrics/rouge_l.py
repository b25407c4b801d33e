"""ROUGE-L of captions, as coco-caption computes it: best precision and best recall over the references, beta 1.2 (Lin 2004)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from mm1.evals.metrics.ptb import tokenize

BETA = 1.2


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute ROUGE-L of each caption, 0 to 1.

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, at least one.

    Raises:
        ValueError: the numbers of predictions and images differ.
    """
    targets = iter(tokenize(list(chain.from_iterable(references))))
    scores = []
    for text, texts in zip(tokenize(predictions), references, strict=True):
        # An empty caption counts as one empty token there, which matches another empty caption.
        candidate, words = text.split(" "), [next(targets).split(" ") for _ in texts]
        common = [_longest_common(candidate, target) for target in words]
        precision = max(common) / len(candidate)
        recall = max(count / len(target) for count, target in zip(common, words, strict=True))
        weighted = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / weighted if weighted else 0.0)
    return scores


def _longest_common(first: list[str], second: list[str]) -> int:
    """Compute the length of the longest common subsequence, with the rows of the table as bits of integers (Hyyrö 2004)."""
    positions: dict[str, int] = defaultdict(int)
    for index, word in enumerate(first):
        positions[word] |= 1 << index
    mask = (1 << len(first)) - 1
    row = mask
    for word in second:
        match = row & positions.get(word, 0)
        row = ((row + match) | (row - match)) & mask
    return len(first) - row.bit_count()
