"""Exact match of short answers, with the normalization of each benchmark."""

from __future__ import annotations

import string
from collections.abc import Sequence

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if the answer equals a reference without case and punctuation (GQA; lm-evaluation-harness' TriviaQA)."""
    return float(_plain(prediction) in {_plain(reference) for reference in references})


def literal_match(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if the answer is a reference to the letter, for answers of a fixed form: options, choices, yes and no."""
    return float(prediction in references)


def _plain(text: str) -> str:
    return text.strip().lower().translate(_NO_PUNCTUATION)


def prefix_match(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if a continuation begins with a reference and the reference ends at a word's end (LAMBADA, WebQS).

    A model that scores continuations is right exactly if the reference is its greedy continuation; for one that generates text
    this is the same test. Case and leading space do not count.
    """
    text = prediction.strip().lower()
    return float(any(_begins(text, reference.strip().lower()) for reference in references))


def _begins(text: str, reference: str) -> bool:
    return bool(reference) and text.startswith(reference) and not text[len(reference) : len(reference) + 1].isalnum()
