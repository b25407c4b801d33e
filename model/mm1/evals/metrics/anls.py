"""ANLS, the average normalised Levenshtein similarity of DocVQA and InfographicVQA (Biten et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

THRESHOLD = 0.5
"""A similarity below it counts as 0."""


def anls(prediction: str, references: Sequence[str]) -> float:
    """Compute the best similarity of an answer to the references, in any case and white space, 0 to 1.

    Raises:
        ValueError: there is no reference.
    """
    if not references:
        raise ValueError("expected at least one reference answer, got none")
    best = max(_similarity(prediction, reference) for reference in references)
    return best if best >= THRESHOLD else 0.0


def _similarity(prediction: str, reference: str) -> float:
    first, second = (" ".join(text.lower().split()) for text in (prediction, reference))
    # The published script divides by the length before white space is removed.
    longest = max(len(prediction), len(reference))
    return 1.0 - edit_distance(first, second) / longest if longest else 1.0


def edit_distance(first: str, second: str) -> int:
    """Count the insertions, deletions and replacements that turn one text into another (Levenshtein)."""
    previous = list(range(len(second) + 1))
    for row, character in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            replaced = previous[column - 1] + (character != other)
            current.append(min(previous[column] + 1, current[-1] + 1, replaced))
        previous = current
    return previous[-1]
