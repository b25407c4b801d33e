"""Relaxed accuracy of ChartQA: numbers within 5 %, other answers exactly (Masry et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

TOLERANCE = 0.05


def relaxed_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if an answer is right.

    A number may differ by 5 % of the reference; a percent sign divides by 100. A reference of 0 or
    without a number must be met exactly, in any case.
    """
    return float(any(_is_right(prediction, reference) for reference in references))


def _is_right(prediction: str, reference: str) -> bool:
    number, expected = _number(prediction), _number(reference)
    if number is not None and expected:
        return abs(number - expected) / abs(expected) <= TOLERANCE
    return prediction.lower() == reference.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
