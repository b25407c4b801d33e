"""VQA accuracy as defined by the VQAv2 challenge: normalised answers, agreement with at least three other annotators.

Answers are compared after normalisation of punctuation, articles, number words and missing apostrophes. With one annotator the
metric is exact match; with fewer than four, agreement with all others gives full accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Removed if they touch a space or the text has a thousands comma, else replaced by a space, as in the challenge's definition.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"none": "0"}
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's "
    "how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't "
    "not've o'clock oughtn't shan't shouldn't should've shouldn't've she'd've she's somebody'd somebody'll somebody's "
    "someone'd someone'll someone's something'd something'll "
    "that'd that's there'd there're there's they'd they'd've they'll they're they've "
    "'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all you'd you'd've you'll you're you've"
)


def _without_apostrophes() -> dict[str, str]:
    """Map spellings that lack one or all apostrophes to their contraction."""
    table = {}
    for contraction in _CONTRACTIONS.split():
        pieces = contraction.split("'")
        spellings = {"".join(pieces)} | {
            "'".join([*pieces[:gap], pieces[gap] + pieces[gap + 1], *pieces[gap + 2 :]]) for gap in range(len(pieces) - 1)
        }
        table.update(dict.fromkeys(spellings, contraction))
    return table


_SPELLINGS = _without_apostrophes()


def normalise(answer: str) -> str:
    """Normalise an answer for comparison."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    spaced = text
    for sign in _PUNCTUATION:
        joined = f"{sign} " in text or f" {sign}" in text or _THOUSANDS.search(text)
        spaced = spaced.replace(sign, "" if joined else " ")
    tokens = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", spaced).lower().split()]
    return " ".join(_SPELLINGS.get(token, token) for token in tokens if token not in _ARTICLES)


def vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Compute the accuracy of one answer.

    Args:
        prediction: the model's answer.
        references: the annotators' answers, ten in VQAv2.

    Returns:
        The mean, over all leave-one-out subsets of annotators, of min(matches / 3, 1).
    """
    answer = normalise(prediction)
    matches = [normalise(reference) == answer for reference in references]
    if len(matches) == 1:
        return float(matches[0])
    total, enough = sum(matches), min(3, len(matches) - 1)
    return sum(min((total - match) / enough, 1.0) for match in matches) / len(matches)
