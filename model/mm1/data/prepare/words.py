"""Text statistics for filters and features: stop words, repetition, letters.

Definitions follow the ROOTS and OBELICS pipelines; the list of stop words is our own.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import isqrt

CHARACTERS, WORDS = 10, 5
"""Lengths of the n-grams for repetition statistics."""
_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both but by can
could did do does doing down during each few for from further had has have having he her here hers him his how i if in into is
it its itself just me more most my no nor not now of off on once only or other our out over own same she should so some such
than that the their them then there these they this those through to too under until up us very was we were what when where
which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
ENGLISH_SHARE = 0.2
"""Minimum fraction of stop words in a text that is considered English."""


def stop_word_share(words: list[str]) -> float:
    """Compute the fraction of words that are English stop words, ignoring leading and trailing punctuation."""
    stripped = [word.strip(".,;:!?\"'()[]").lower() for word in words]
    return sum(word in STOP_WORDS for word in stripped) / max(1, len(words))


def letter_share(text: str) -> float:
    """Compute the fraction of letters among the non-space characters."""
    visible = [character for character in text if not character.isspace()]
    return sum(map(str.isalpha, visible)) / max(1, len(visible))


def character_repetition(text: str) -> float:
    """Compute the fraction of character 10-grams covered by the sqrt(n) most frequent of the n distinct ones."""
    counts = Counter(map("".join, zip(*(islice(text, start, None) for start in range(CHARACTERS)), strict=False)))
    total = sum(counts.values())
    if not total:
        return 0.0
    repeated = sum(count > 1 for count in counts.values())
    return sum(count for _, count in counts.most_common(min(isqrt(len(counts)), repeated))) / total


def word_repetition(words: list[str]) -> float:
    """Compute the fraction of word 5-grams that occur more than once."""
    counts = Counter(zip(*(islice(words, start, None) for start in range(WORDS)), strict=False))
    total = sum(counts.values())
    return sum(count for count in counts.values() if count > 1) / total if total else 0.0
