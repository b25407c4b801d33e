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
_MAX_PERIODS = 32  # re.UNICODE, which the challenge passes as the number of replacements
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"none": "0"}
# The spellings that the challenge corrects are those without apostrophe, or of two apostrophes those without one of them.
_ONE_APOSTROPHE = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd "
    "there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've "
    "when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all "
    "you'd you'll you're you've"
)
_TWO_APOSTROPHES = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've 'ow's'at"
)


def _corrections() -> dict[str, str]:
    """Map spellings that lack an apostrophe to the right ones."""
    table = {contraction.replace("'", ""): contraction for contraction in _ONE_APOSTROPHE.split()}
    for contraction in _TWO_APOSTROPHES.split():
        places = [index for index, character in enumerate(contraction) if character == "'"]
        table |= {contraction[:index] + contraction[index + 1 :]: contraction for index in places}
    # The challenge's table has this pair the wrong way round.
    return table | {"somebody'd": "somebodyd"}


_SPELLINGS = _corrections()


def normalise(answer: str) -> str:
    """Normalise an answer for comparison, as the challenge does."""
    return _process(_clean(answer))


def _clean(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _process(text: str) -> str:
    thousands, spaced = _THOUSANDS.search(text), text
    for sign in _PUNCTUATION:
        joined = f"{sign} " in text or f" {sign}" in text or thousands
        spaced = spaced.replace(sign, "" if joined else " ")
    tokens = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", spaced, count=_MAX_PERIODS).lower().split()]
    return " ".join(_SPELLINGS.get(token, token) for token in tokens if token not in _ARTICLES)


def vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Compute the accuracy of one answer.

    As in the challenge, answers on which all annotators agree to the letter are compared as they are, not normalised: "Yes" is
    wrong if all wrote "yes". A single answer, which the challenge does not have, is compared after normalization.

    Args:
        prediction: the model's answer.
        references: the annotators' answers, ten in VQAv2.

    Returns:
        The mean, over all leave-one-out subsets of annotators, of min(matches / 3, 1).

    Raises:
        ValueError: there is no reference.
    """
    answer, answers = _clean(prediction), [_clean(reference) for reference in references]
    if len(answers) == 1 or len(set(answers)) > 1:
        answer, answers = _process(answer), [_process(reference) for reference in answers]
    return agreement(answer, answers)


def agreement(answer: str, answers: Sequence[str]) -> float:
    """Compute the mean, over all leave-one-out subsets of annotators, of min(matches / 3, 1), for equal spellings.

    With one annotator the result is exact match; with fewer than four, agreement with all others gives 1.

    Raises:
        ValueError: there is no annotator.
    """
    if not answers:
        raise ValueError("expected at least one reference answer, got none")
    matches = [reference == answer for reference in answers]
    if len(matches) == 1:
        return float(matches[0])
    total, enough = sum(matches), min(3, len(matches) - 1)
    return sum(min((total - match) / enough, 1.0) for match in matches) / len(matches)
