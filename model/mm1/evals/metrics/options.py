"""The option that a generated answer names, in the ways of the benchmarks with lettered options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LEADING_LETTER = re.compile(r"\s*([A-Z])\.")
_FORMS = (
    *(("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")")),
    *(("(", ")."), (":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)


def letters(number: int) -> str:
    """Return the letters of a number of options.

    Raises:
        ValueError: there are more options than letters.
    """
    if number > len(ascii_uppercase):
        raise ValueError(f"expected at most {len(ascii_uppercase)} options, got {number}")
    return ascii_uppercase[:number]


def first_letter(prediction: str) -> str:
    """Return the first character of an answer in upper case, as SEED does; empty if there is none."""
    return prediction.strip()[:1].upper()


def leading_letter(prediction: str) -> str:
    """Return the letter of an answer such as ``b`` or ``B. a red ring`` (ScienceQA, AI2D); empty if it has another form."""
    text = prediction.strip()
    if len(text) == 1 and text.upper() in ascii_uppercase:
        return text.upper()
    match = _LEADING_LETTER.match(text)
    return match[1] if match else ""


def mmbench_letter(prediction: str, options: Sequence[str]) -> str:
    """Return the letter of the option that an answer names, as MMBench reads it before it asks a judge; empty if it names none.

    An answer names an option if exactly one letter stands alone in it, bare or in a form such as ``(B)`` or ``B.``; else if it
    has the text of exactly one option.
    """
    named = _lone_letter(prediction.split(), letters(len(options)))
    if named:
        return named
    lowered = prediction.lower()
    matches = [letter for letter, option in zip(letters(len(options)), options, strict=True) if option.lower() in lowered]
    return matches[0] if len(matches) == 1 else ""


def _lone_letter(words: Sequence[str], known: str) -> str:
    for before, after in (("", ""), *_FORMS):
        matches = [letter for letter in known if f"{before}{letter}{after}" in words]
        # In a longer text a bare A may be the article.
        article = not before + after and "A" in matches and len(words) > 3
        if len(matches) == 1 and not article:
            return matches[0]
    return ""
