"""Stop words of languages other than English: which language a text is in, and its fraction of stop words.

Each language has a list of stop words (``stopwordsiso``). Lists have different lengths and languages have different grammars,
so a fraction is compared with the usual one of its language: a text in German with as many stop words as usual gets the same
fraction as a text in English with as many stop words as usual, and thresholds for English apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from math import sqrt
from string import ascii_lowercase
from typing import NamedTuple
from unicodedata import normalize

from mm1.data.prepare.words import STOP_WORDS, Words

USUAL_ENGLISH_SHARE = 0.47
"""Usual fraction of English stop words in English text."""
# Summed frequencies of the listed words in wordfreq 3 (subtitles, news, encyclopedias, social media). Omitted: languages whose
# stop words are not separate words (Chinese, Japanese, Thai, Korean), lists that match other languages (Breton, Latin), and one
# in a broken encoding (Lithuanian).
_MEASURED = {
    **{"ar": 0.31, "bg": 0.54, "bn": 0.36, "ca": 0.53, "cs": 0.44, "da": 0.56, "de": 0.61, "el": 0.42, "en": 0.63, "es": 0.63},
    **{"fa": 0.46, "fi": 0.42, "fr": 0.62, "he": 0.25, "hi": 0.46, "hu": 0.50, "id": 0.50, "it": 0.59, "lv": 0.25, "ms": 0.40},
    **{"nl": 0.59, "no": 0.56, "pl": 0.47, "pt": 0.59, "ro": 0.48, "ru": 0.46, "sk": 0.42, "sl": 0.46, "sv": 0.62, "tr": 0.28},
    **{"uk": 0.16, "ur": 0.26, "vi": 0.39},
}
# Not in wordfreq: lower than most, because the lists are short.
_ASSUMED = dict.fromkeys(
    ("af", "eo", "et", "eu", "ga", "gl", "gu", "ha", "hr", "hy", "mr", "so", "st", "sw", "tl", "yo", "zu"), 0.3
)
USUAL_SHARES = _MEASURED | _ASSUMED
"""Language (ISO 639-1) -> usual fraction of the listed words in its texts."""
_RIVAL_SHARE = 0.55
"""The same for assumed ones where languages compete, near the largest measured: such a list must win clearly."""
_COMPETING = _MEASURED | dict.fromkeys(_ASSUMED, _RIVAL_SHARE)
MIN_SECOND_SHARE = 0.1
"""Minimum fraction of words explained by the second language alone in a text of two languages."""
SAMPLE = 1_000
"""Number of words that determine the language of a text."""
MAX_FOREIGN_LETTERS = 0.04
"""Maximum fraction of letters that do not occur in the list of the best-matching language."""
_SPELLINGS = (("’", " "), ("'", " "), ("ș", "ş"), ("ț", "ţ"))
"""Apostrophes separate words (French: l'heure); the Romanian list has cedillas for commas."""
_PUNCTUATION = ".,;:!?\"'()[]{}<>«»„“”‚‘’‹›…–—-¿¡،؛؟۔।॥՝՞։*_/"


class _Lists(NamedTuple):
    languages_of: dict[str, tuple[str, ...]]
    """Stop word -> the languages that have it."""
    words: dict[str, frozenset[str]]
    """Language -> its stop words."""
    letters: dict[str, frozenset[str]]
    """Language -> letters of its stop words."""


@cache
def _lists() -> _Lists:
    import stopwordsiso

    words = {
        language: frozenset(normalize("NFC", word.lower()) for word in stopwordsiso.stopwords(language))
        for language in sorted(USUAL_SHARES)
    }
    languages_of: dict[str, tuple[str, ...]] = {}
    for language, stop_words in words.items():
        languages_of |= {word: (*languages_of.get(word, ()), language) for word in stop_words}
    letters = {language: frozenset(ascii_lowercase + "".join(stop_words)) for language, stop_words in words.items()}
    return _Lists(languages_of, words, letters)


def language_of(words: Words) -> str | None:
    """Return the language whose stop words match a text best, relative to their usual share.

    English, unless another language wins by more than chance (the square root of the number of English words): a few words
    that both have are no evidence.
    None for languages without a list: most characters are written without spaces, or letters do not belong to the
    best-matching language (as in Icelandic, Serbian or Tamil). A language written in plain Latin letters that has no list
    counts as the one that matches best.
    """
    if words.unspaced:
        return None
    tokens = _tokens(words.text)[:SAMPLE]
    languages_of = _lists().languages_of
    hits = Counter(language for token in tokens if token in languages_of for language in languages_of[token])
    best = _best(hits)
    if hits[best] / _COMPETING[best] <= (hits["en"] + sqrt(hits["en"])) / _COMPETING["en"]:
        best = "en"
    letters = {letter: count for letter, count in Counter("".join(tokens)).items() if letter.isalpha()}
    foreign = sum(count for letter, count in letters.items() if letter not in _lists().letters[best])
    return None if foreign > MAX_FOREIGN_LETTERS * sum(letters.values()) else best


def _best(hits: Mapping[str, int]) -> str:
    """Return the language that matches best; of several, English or one with a measured share."""
    return max(sorted(hits), key=lambda name: (hits[name] / _COMPETING[name], name == "en", name in _MEASURED), default="en")


def mixed_share(words: Words, language: str) -> float:
    """Compute the fraction of stop words of two languages in a text that has both, on the scale of English.

    The second language is the one that explains most of the words that the first does not explain.

    Args:
        words: the text.
        language: the first language.

    Returns:
        The sum of both fractions; that of the first alone if the second explains too few words.
    """
    lists, tokens, first = _lists(), _tokens(words.text), stop_word_share(words, language)
    rest = [token for token in tokens if token in lists.languages_of and token not in lists.words[language]]
    second = _best(Counter(name for token in rest for name in lists.languages_of[token]))
    second_words, first_words = (STOP_WORDS if name == "en" else lists.words[name] for name in (second, language))
    if sum(map(second_words.__contains__, rest)) < MIN_SECOND_SHARE * max(1, len(tokens)):
        return first
    added = sum(token in second_words and token not in first_words for token in tokens)
    usual = USUAL_ENGLISH_SHARE if second == "en" else _COMPETING[second]
    return first + added / len(tokens) * USUAL_ENGLISH_SHARE / usual


def stop_word_share(words: Words, language: str) -> float:
    """Compute the fraction of stop words in a text, on the scale of English.

    Args:
        words: the text.
        language: a key of :data:`USUAL_SHARES`; English is judged by our own list.
    """
    if language == "en":
        return words.stop_word_share
    tokens = _tokens(words.text)
    hits = sum(map(_lists().words[language].__contains__, tokens))
    return hits / max(1, len(tokens)) * USUAL_ENGLISH_SHARE / USUAL_SHARES[language]


@lru_cache(maxsize=1)
def _tokens(text: str) -> Sequence[str]:
    """Split at whitespace and apostrophes, without case and punctuation; the last text is cached."""
    text = normalize("NFC", text.lower())
    for spelling, usual in _SPELLINGS:
        text = text.replace(spelling, usual)
    return [token for word in text.split() if (token := word.strip(_PUNCTUATION))]
