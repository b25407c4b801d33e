"""MathVista's rules to find and compare an answer, without a judge (Lu et al. 2023).

The benchmark asks GPT-4 for the answer in a longer text. Here the last option letter, number or list in the text is taken, so
that scores of models with long answers are lower bounds of the published ones; short answers are treated as there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mm1.evals.metrics.anls import edit_distance
from mm1.evals.metrics.options import letters

AnswerType = Literal["text", "integer", "float", "list"]
_QUOTED = re.compile(r'The answer is "(.*)"\.')
_BRACKETED = re.compile(r"\(([a-zA-Z])\)")
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?|-?\.\d+")
_LIST = re.compile(r"\[[^\[\]]*\]")


def parse_answer(
    prediction: str, *, choices: Sequence[str] = (), answer_type: AnswerType = "text", precision: int = 1
) -> str | None:
    """Return the answer within a generated text, in the form of the right ones; None if it cannot have it.

    Args:
        prediction: the generated text.
        choices: the options of a multiple-choice question; the answer is the text of one.
        answer_type: type of the answer to other questions.
        precision: decimals of an answer of type float.
    """
    extraction = extract(prediction, choices=choices, answer_type=answer_type)
    return normalise(extraction, choices=choices, answer_type=answer_type, precision=precision)


def extract(prediction: str, *, choices: Sequence[str] = (), answer_type: AnswerType = "text") -> str:
    """Return the answer within a generated text."""
    text = prediction.strip()
    if text in choices:
        return text
    if match := _QUOTED.search(text):
        return match[1]
    if choices:
        return _option(text, choices)
    pattern = {"integer": _NUMBER, "float": _NUMBER, "list": _LIST}.get(answer_type)
    matches = pattern.findall(text) if pattern else []
    answer = str(matches[-1]) if matches else text
    return answer.replace(",", "") if pattern is _NUMBER else answer


def _option(text: str, choices: Sequence[str]) -> str:
    if bracketed := _BRACKETED.findall(text):
        return str(bracketed[-1]).upper()
    alone = [word.strip(".,:;!?*") for word in text.split()]
    named = [word for word in alone if word in set(letters(len(choices)))]
    # In a longer text an A may be the article, unless it ends the text.
    if named and (named[-1] != "A" or len(alone) <= 3 or alone[-1] == "A"):
        return named[-1]
    contained = [choice for choice in choices if choice and choice.lower() in text.lower()]
    return max(contained, key=len) if contained else text


def normalise(extraction: str, *, choices: Sequence[str], answer_type: AnswerType, precision: int) -> str | None:
    """Return an extracted answer in the form of the right ones; None if it cannot have it.

    For a question with choices this is the option named by its letter, or the one with the smallest edit distance.
    """
    if choices:
        text = extraction.strip()
        if bracketed := _BRACKETED.findall(text):
            text = bracketed[0].upper()
        if len(text) == 1 and text in letters(len(choices)):
            return choices[letters(len(choices)).index(text)]
        return min(choices, key=lambda choice: edit_distance(text, choice))
    if answer_type in ("text", "list"):
        return extraction
    try:
        number = float(extraction)
        return str(int(number)) if answer_type == "integer" else str(round(number, precision))
    except (ValueError, OverflowError):
        return None
