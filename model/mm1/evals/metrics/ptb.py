"""Caption tokens as in the published caption metrics: Penn Treebank tokens, lower case, without punctuation.

Equal to coco-caption's PTBTokenizer, which runs Stanford CoreNLP 3.4.1 on Java with -preserveLines and -lowerCase and drops the
tokens of a punctuation list. Measured agreement: `tests/unit/evals/metrics/test_ptb.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from mm1.evals.metrics.ptb_rules import ASSIMILATED, KEEP_PERIOD, RULES

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens that the metrics ignore. Brackets are lower case after tokenization, so that the published metrics keep them."""
_SIMPLE = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)*[ ]*\.?[ ]*")
# No rule reads past the space after such a piece of text, so that its tokens can be kept.
_PIECE = re.compile("[^ \t\r\n\u00a0\u2000-\u200b\u2028\u2029\u3000\\d.<(+]+(?=[ \n])")
_LAST_WORD = re.compile(r"[A-Za-z]{2,}(?=\.[ \n])")
_SPACES = re.compile("[ \t\r\n\u00a0\u2000-\u200b\u2028\u2029\u3000]+")


def caption_tokens(caption: str, following: str = "") -> list[str]:
    """Split a caption into the tokens of the published metrics.

    Args:
        caption: one caption.
        following: the next caption of the file. The published tokenizer looks into it after a single letter with a period.

    A token with a space inside, such as a mixed fraction, has a no-break space there, on which most metrics split it again.
    """
    if _SIMPLE.fullmatch(caption) and not caption.endswith(". ."):
        words = caption.lower().rstrip(" .").split(" ")
        if not (len(words[-1]) == 1 or words[-1] in KEEP_PERIOD) and ASSIMILATED.keys().isdisjoint(words):
            return [word for word in words if word]
    lowered = (token.lower() for token in _scan(caption, following))
    return [token for token in lowered if token not in PUNCTUATION]


def tokenize(captions: Sequence[str]) -> list[str]:
    """Tokenize captions; each result has its tokens separated by spaces."""
    return [" ".join(caption_tokens(*pair)) for pair in zip(captions, [*captions[1:], ""], strict=True)]


def caption_words(caption: str) -> list[str]:
    """Split a caption into words as CIDEr-D and BLEU count them."""
    return " ".join(caption_tokens(caption)).split()


def _scan(caption: str, following: str) -> Iterator[str]:
    """Yield the tokens of a caption in their original case."""
    text, position, end = caption.replace("\n", " ") + "\n" + following[:20], 0, len(caption)
    while position < end:
        if match := _SPACES.match(text, position):
            position = match.end()
        elif match := _PIECE.match(text, position):
            yield from _tokens_of_piece(match[0])
            position = match.end()
        elif (match := _LAST_WORD.match(text, position)) and match[0].lower() not in KEEP_PERIOD:
            yield match[0]
            position = match.end() + 1
        else:
            token, position = _longest(text, position)
            if token:
                yield token


@lru_cache(maxsize=20_000)
def _tokens_of_piece(piece: str) -> tuple[str, ...]:
    text, tokens, position = piece + " ", [], 0
    while position < len(piece):
        token, position = _longest(text, position)
        if token:
            tokens.append(token)
    return tuple(tokens)


def _longest(text: str, position: int) -> tuple[str, int]:
    """Find the longest match at a position: token, position after it. A character without a rule is dropped."""
    best, length = None, 0
    for rule in RULES:
        match = rule.pattern.match(text, position)
        if match and match.end() - position > length:
            best, length, spell = match, match.end() - position, rule.spell
    if best is None:
        return "", position + 1
    return (spell(best[1]) if spell else best[1]), best.end(1)
