"""Text statistics for filters and features: words, stop words, repetition, letters.

Definitions follow the ROOTS and OBELICS pipelines; the list of English stop words is our own. Words are separated by
whitespace. In scripts that are written without spaces, every character counts as a word, as word processors count them.
Statistics are computed over arrays of code points: a word is represented by a 64-bit hash of its characters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, cached_property
from itertools import repeat
from math import isqrt

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8 | np.uint32]
Indexes = NDArray[np.int64]
Hashes = NDArray[np.uint64]

CHARACTERS, WORDS = 10, 5
"""Lengths of the n-grams for repetition statistics."""
CHARACTERS_PER_WORD = 4
"""Length of a word, in characters, in n-grams of text without spaces: about that of Thai, above that of Chinese (1.5)."""
_UNSPACED = (
    # Han, kana, bopomofo
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U000323af"
    # Line break class "complex context" (UAX 14): Thai, Lao, Burmese, Khmer, Tai. Without digits
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ec6\u0ec8-\u0ece\u0edc-\u0edf\u1000-\u103f\u104c-\u108f\u109a-\u109f\u1780-\u17b3\u17b6-\u17d3"
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a5e\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaadf"
    # Tibetan, Yi
    "\u0f00\u0f40-\u0f6c\u0f71-\u0f84\u0f88-\u0fbc\ua000-\ua48c"
)
_CHARACTER = re.compile(rf"[{_UNSPACED}][^\w\s]*")
"""A character with the marks and the punctuation after it."""
_WORD = re.compile(rf"{_CHARACTER.pattern}|[^\s{_UNSPACED}]+")
"""The same, or a run of other characters."""
_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both but by can
could did do does doing down during each few for from further had has have having he her here hers him his how i if in into is
it its itself just me more most my no nor not now of off on once only or other our out over own same she should so some such
than that the their them then there these they this those through to too under until up us very was we were what when where
which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
PUNCTUATION = ".,;:!?\"'()[]"
"""Ignored at the start and the end of a word when stop words are looked up."""
ENGLISH_SHARE = 0.2
"""Minimum fraction of stop words in a text that is considered English."""
_BASE, _NEXT_WORD = 0x9E3779B97F4A7C15, np.uint64(0xD1342543DE82EF95)
"""Multipliers of the polynomial hashes over characters and over words, modulo 2^64; odd, so that they have inverses."""
_INVERSE = pow(_BASE, -1, 1 << 64)
LAST_SPACE = 0x3000
"""The last code point that is whitespace."""
_CACHED_POWERS = 1 << 18
_MIX = (np.uint64(33), np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
"""Shift and multipliers of the finalizer of MurmurHash3."""


class Words:
    """The words of a text.

    Args:
        text: any text; its parts are separated by whitespace.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._spaced, self.unspaced = _separate(text)
        self._codes = _codes(self._spaced)
        self._starts, self._ends = _bounds(self._codes)

    def __len__(self) -> int:
        """Number of words."""
        return len(self._starts)

    @cached_property
    def _lower(self) -> str:
        return self._spaced.lower()

    @cached_property
    def stop_word_share(self) -> float:
        """The fraction of words that are English stop words, ignoring case and punctuation around them."""
        words = map(str.strip, self._lower.split(), repeat(PUNCTUATION))
        return sum(map(STOP_WORDS.__contains__, words)) / max(1, len(self))

    @cached_property
    def repetition(self) -> float:
        """The fraction of word 5-grams that occur more than once; of character 20-grams in text without spaces."""
        words = _hashes(_prefixes(self._codes), self._starts, self._ends)
        counts = _counts(_ngrams(words, WORDS * CHARACTERS_PER_WORD if self.unspaced else WORDS))
        total = int(counts.sum())
        return float(counts[counts > 1].sum()) / total if total else 0.0

    def shingles(self, length: int) -> NDArray[np.uint32]:
        """Return the hashes of all runs of words, ignoring case; a shorter text is a single run.

        Args:
            length: number of words in a shingle.
        """
        if not len(self):
            return np.empty(0, np.uint32)
        codes = _codes(self._lower)
        same = len(codes) == len(self._codes)  # a few letters become two, such as the Turkish capital I with a dot
        starts, ends = (self._starts, self._ends) if same else _bounds(codes)
        hashes = _ngrams(_hashes(_prefixes(codes), starts, ends), min(length, len(starts)))
        return (mix(hashes) >> np.uint64(32)).astype(np.uint32)


def character_repetition(text: str) -> float:
    """Compute the fraction of character 10-grams covered by the sqrt(n) most frequent of the n distinct ones."""
    codes = _codes(text).astype(np.uint64)
    counts = _counts(_ngrams(codes + np.uint64(1), CHARACTERS))
    repeated = counts[counts > 1]
    if not len(repeated):
        return 0.0
    most = min(isqrt(len(counts)), len(repeated))
    return float(np.partition(repeated, len(repeated) - most)[-most:].sum()) / (len(text) - CHARACTERS + 1)


def letter_share(text: str) -> float:
    """Compute the fraction of letters among the visible characters; a combining mark belongs to the character before it."""
    visible = "".join(text.split())
    marks = 0 if text.isascii() else sum(unicodedata.category(character)[0] == "M" for character in visible)
    return sum(map(str.isalpha, visible)) / max(1, len(visible) - marks)


def _separate(text: str) -> tuple[str, bool]:
    """Put spaces between the words of scripts without spaces; also return whether they are most of the words."""
    if text.isascii() or not _CHARACTER.search(text):
        return text, False
    words = _WORD.findall(text)
    return " ".join(words), 2 * len(_CHARACTER.findall(text)) > len(words)


def _codes(text: str) -> Codes:
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def _is_space() -> NDArray[np.bool_]:
    return np.array([*(chr(code).isspace() for code in range(LAST_SPACE + 1)), False])


def _bounds(codes: Codes) -> tuple[Indexes, Indexes]:
    """Return the start and the end of each word, as ``str.split`` separates them."""
    spaces = np.ones(len(codes) + 2, np.bool_)
    spaces[1:-1] = _is_space()[codes if codes.dtype == np.uint8 else np.minimum(codes, LAST_SPACE + 1)]
    edges = np.flatnonzero(spaces[1:] != spaces[:-1])
    return edges[::2], edges[1::2]


def _prefixes(codes: Codes) -> Hashes:
    """Return the polynomial hash of each prefix, the empty one first."""
    prefixes = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, len(codes)), out=prefixes[1:])
    return prefixes


def _hashes(prefixes: Hashes, starts: Indexes, ends: Indexes) -> Hashes:
    """Return the hash of each range of characters, wherever it starts."""
    inverse = _powers(_INVERSE, len(prefixes))
    return mix((prefixes[ends] - prefixes[starts]) * inverse[starts])


def _powers(base: int, count: int) -> Hashes:
    return _cached_powers(base)[:count] if count <= _CACHED_POWERS else _all_powers(base, count)


@cache
def _cached_powers(base: int) -> Hashes:
    return _all_powers(base, _CACHED_POWERS)


def _all_powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def mix(hashes: Hashes) -> Hashes:
    """Apply the finalizer of MurmurHash3: every bit of the result depends on all bits."""
    shift, first, second = _MIX
    hashes = (hashes ^ (hashes >> shift)) * first
    hashes = (hashes ^ (hashes >> shift)) * second
    return hashes ^ (hashes >> shift)


def _ngrams(items: Hashes, length: int) -> Hashes:
    """Return the hash of each run of items, joining runs of 1, 2, 4, ... items."""
    if len(items) < length:
        return np.empty(0, np.uint64)
    count = len(items) - length + 1
    hashes, done, power, run, factor = np.zeros(count, np.uint64), 0, np.uint64(1), items, _NEXT_WORD
    with np.errstate(over="ignore"):
        for bit in range(length.bit_length()):
            width = 1 << bit
            if length & width:
                hashes = hashes + power * run[done : done + count]
                done, power = done + width, power * factor
            if 2 * width <= length:
                run = run[:-width] + factor * run[width:]
                factor = factor * factor
    return hashes


def _counts(hashes: Hashes) -> Indexes:
    """Return how often each distinct hash occurs."""
    if not len(hashes):
        return np.empty(0, np.int64)
    ordered = np.sort(hashes)
    first = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.diff(first, prepend=0, append=len(ordered))
