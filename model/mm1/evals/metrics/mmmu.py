"""MMMU's rules to find an answer in generated text and to compare it (Yue et al. 2023, `eval_utils.py` of the benchmark)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from mm1.evals.metrics.options import letters

_EDGES = (",", ".", "!", "?", ";", ":", "'")
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)
_SHORT = 5
"""Number of words up to which an answer is not searched for the text of an option."""


def parse_choice(prediction: str, options: Sequence[str]) -> str:
    """Return the letter of the option that an answer names; the last one of several.

    The benchmark guesses if there is none. The guess here is drawn from the text of the answer, so that it can be repeated.
    """
    known, text = letters(len(options)), prediction
    for character in _EDGES:
        text = text.strip(character)
    text = f" {text} "
    lowered = text.lower()
    positions: list[Callable[[str], int]] = [lambda letter: text.rfind(f"({letter})"), lambda letter: text.rfind(f" {letter} ")]
    if len(text.split()) > _SHORT:
        positions.append(lambda letter: lowered.rfind(options[known.index(letter)].lower()))
    for position in positions:
        matches = [letter for letter in known if position(letter) >= 0]
        if matches:
            return max(matches, key=position)
    return Random(prediction).choice(known)


def parse_open(prediction: str) -> list[str | float]:
    """Return the possible answers in a text: what follows phrases such as "the answer is", and all numbers there."""
    lines = re.split(r"\.\s(?=[A-Z])|\n", prediction.strip().strip(".").lower())
    parts = [_after_key(line, (*_KEYS, "=") if index == len(lines) - 1 else _KEYS) for index, line in enumerate(lines)]
    answers = [part for part in parts if part and part not in _TRIVIAL] or [prediction.strip().strip(".").lower()]
    numbers = [number for answer in answers for pattern in _NUMBERS for number in re.findall(pattern, answer)]
    return list(dict.fromkeys(form for answer in [*answers, *numbers] for form in _forms(answer)))


def _after_key(line: str, keys: Sequence[str]) -> str:
    """Return the shortest text after one of the phrases; empty if there is none."""
    tails = [line.split(key)[-1].strip() for key in keys if key in line]
    shortest = ""
    for tail in tails:
        # As there, an empty tail gives way to the next one.
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest


def _forms(answer: str) -> list[str | float]:
    """Return a number rounded to two places, or lower-case text; a single letter with a space on either side."""
    text = answer.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]


def open_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if one of the answers in a text contains a reference, or is the same number."""
    expected = [form for reference in references for form in _forms(reference)]
    for answer in parse_open(prediction):
        if isinstance(answer, float):
            if answer in expected:
                return 1.0
        elif any(isinstance(form, str) and form in answer for form in expected):
            return 1.0
    return 0.0
