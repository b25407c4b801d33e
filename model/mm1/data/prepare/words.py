"""Statistics of texts that filters and features use: stop words, repetition, letters.

Definitions follow those of the ROOTS and OBELICS pipelines; the list of stop words is ours.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import isqrt

CHARACTERS, WORDS = 10, 5
"""Lengths of the stretches whose repetition is counted."""
_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both but by can
could did do does doing down during each few for from further had has have having he her here hers him his how i if in into is
it its itself just me more most my no nor not now of off on once only or other our out over own same she should so some such
than that the their them then there these they this those through to too under until up us very was we were what when where
which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
ENGLISH_SHARE = 0.2
"""Share of stop words from which a text of some length is taken for English."""


def stop_word_share(words: list[str]) -> float:
    """Share of words that are English stop words; punctuation at their ends does not matter."""
    stripped = [word.strip(".,;:!?\"'()[]").lower() for word in words]
    return sum(word in STOP_WORDS for word in stripped) / max(1, len(words))


def letter_share(text: str) -> float:
    """Share of letters among the characters that are no spaces."""
    shown = [character for character in text if not character.isspace()]
    return sum(map(str.isalpha, shown)) / max(1, len(shown))


def character_repetition(text: str) -> float:
    """Share that the most frequent 10-character stretches have of all; as many kinds as the square root of their number."""
    counts = Counter(map("".join, zip(*(islice(text, start, None) for start in range(CHARACTERS)), strict=False)))
    total = sum(counts.values())
    if not total:
        return 0.0
    repeated = sum(count > 1 for count in counts.values())
    return sum(count for _, count in counts.most_common(min(isqrt(len(counts)), repeated))) / total


def word_repetition(words: list[str]) -> float:
    """Share of 5-word stretches that occur more than once."""
    counts = Counter(zip(*(islice(words, start, None) for start in range(WORDS)), strict=False))
    total = sum(counts.values())
    return sum(count for count in counts.values() if count > 1) / total if total else 0.0
