"""Stop words of languages other than English: which language a text is in, and its fraction of stop words.

Each language has a list of stop words (``stopwordsiso``). Lists have different lengths and languages have different grammars,
so a fraction is compared with the usual one of its language: a text in German with as many stop words as usual gets the same
fraction as a text in English with as many stop words as usual, and thresholds for English apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from unicodedata import normalize

from mm1.data.prepare.words import Words

USUAL_ENGLISH_SHARE = 0.47
"""Usual fraction of English stop words in English text."""
# Summed frequencies of the listed words in wordfreq 3 (subtitles, news, encyclopedias, social media). Omitted: languages whose
# stop words are not separate words (Chinese, Japanese, Thai, Korean), lists that match other languages (Breton, Latin), and one
# in a broken encoding (Lithuanian).
USUAL_SHARES = {
    **{"ar": 0.31, "bg": 0.54, "bn": 0.36, "ca": 0.53, "cs": 0.44, "da": 0.56, "de": 0.61, "el": 0.42, "en": 0.63, "es": 0.63},
    **{"fa": 0.46, "fi": 0.42, "fr": 0.62, "he": 0.25, "hi": 0.46, "hu": 0.50, "id": 0.50, "it": 0.59, "lv": 0.25, "ms": 0.40},
    **{"nl": 0.59, "no": 0.56, "pl": 0.47, "pt": 0.59, "ro": 0.48, "ru": 0.46, "sk": 0.42, "sl": 0.46, "sv": 0.62, "tr": 0.28},
    **{"uk": 0.16, "ur": 0.26, "vi": 0.39},
    # Not in wordfreq: lower than most, because the lists are short.
    **{"af": 0.3, "eo": 0.3, "et": 0.3, "eu": 0.3, "ga": 0.3, "gl": 0.3, "gu": 0.3, "ha": 0.3, "hr": 0.3, "hy": 0.3, "mr": 0.3},
    **{"so": 0.3, "st": 0.3, "sw": 0.3, "tl": 0.3, "yo": 0.3, "zu": 0.3},
}
"""Language (ISO 639-1) -> usual fraction of the listed words in its texts."""
MAX_FOREIGN_LETTERS = 0.04
"""Maximum fraction of letters that do not occur in the list of the best-matching language."""
_SPELLINGS = str.maketrans({"’": " ", "'": " ", "ș": "ş", "ț": "ţ"})
"""Apostrophes separate words (French: l'heure); the Romanian list has cedillas for commas."""
_PUNCTUATION = ".,;:!?\"'()[]{}<>«»„“”‚‘’‹›…–—-¿¡،؛؟۔।॥՝՞։*_/"


class _Lists(NamedTuple):
    languages_of: dict[str, tuple[str, ...]]
    """Stop word -> the languages that have it."""
    letters: dict[str, frozenset[str]]
    """Language -> letters of its stop words."""


@cache
def _lists() -> _Lists:
    import stopwordsiso

    languages_of: dict[str, list[str]] = {}
    letters = {}
    for language in sorted(USUAL_SHARES):
        words = {normalize("NFC", word.lower()) for word in stopwordsiso.stopwords(language)}
        letters[language] = frozenset("".join(words)) | frozenset("abcdefghijklmnopqrstuvwxyz")
        for word in words:
            languages_of.setdefault(word, []).append(language)
    return _Lists({word: tuple(languages) for word, languages in languages_of.items()}, letters)


def language_of(words: Words) -> str | None:
    """Return the language whose stop words match a text best, relative to their usual share (English if none match).

    None for languages without a list: most characters are written without spaces, or letters do not belong to the
    best-matching language (as in Icelandic, Serbian or Tamil). A language written in plain Latin letters that has no list
    counts as the one that matches best.
    """
    if words.unspaced:
        return None
    tokens = _tokens(words.text)
    hits = Counter(language for token in tokens for language in _lists().languages_of.get(token, ()))
    best = max(sorted(hits), key=lambda language: (hits[language] / USUAL_SHARES[language], language == "en"), default="en")
    letters = Counter(character for token in tokens for character in token if character.isalpha())
    foreign = sum(count for letter, count in letters.items() if letter not in _lists().letters[best])
    return None if foreign > MAX_FOREIGN_LETTERS * letters.total() else best


def stop_word_share(words: Words, language: str) -> float:
    """Compute the fraction of stop words in a text, on the scale of English.

    Args:
        words: the text.
        language: a key of :data:`USUAL_SHARES`; English is judged by our own list.
    """
    if language == "en":
        return words.stop_word_share
    tokens = _tokens(words.text)
    hits = sum(language in _lists().languages_of.get(token, ()) for token in tokens)
    return hits / max(1, len(tokens)) * USUAL_ENGLISH_SHARE / USUAL_SHARES[language]


def _tokens(text: str) -> Sequence[str]:
    tokens = (token.strip(_PUNCTUATION) for token in normalize("NFC", text.lower()).translate(_SPELLINGS).split())
    return [token for token in tokens if token]
