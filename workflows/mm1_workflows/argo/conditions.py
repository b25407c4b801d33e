"""Conditions (``when``) with the meaning that Argo gives them.

Argo replaces the reference by the output's text and evaluates the result with govaluate, after it has turned variables into
strings. So what stands between quotes is text, and what stands without quotes is a word, a number or a truth value, and
otherwise an error: ``needs-work`` is a subtraction, and ``1.0 == 1`` holds. An output without quotes that Argo would compute,
such as 2026-01-01, is an error here instead of a silent inequality. Read from ``shouldExecute`` in
workflow/controller/steps.go of Argo Workflows 4.0, and from parsing.go of govaluate 3.0.1.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from mm1.errors import ConfigurationError
from mm1_workflows.argo.expressions import TASK_OUTPUT

_CONDITION = re.compile(
    r"\s*(?P<left_quote>['\"]?)\{\{\s*(?P<left>[^{}]+?)\s*\}\}(?P=left_quote)\s*(?P<operator>==|!=)"
    r"\s*(?P<quote>['\"]?)(?P<literal>[^'\"{}\\]*?)(?P=quote)\s*"
)
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|\d+\.?\d*|\.\d+)", re.ASCII)
_TRUTH = {"true": True, "false": False}
_TIME = re.compile(r"\d{4}-\d\d-\d\d.*|\d{1,2}:\d\d[AP]M|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) .*")
"""Text that govaluate may read as a time: it starts like one of its formats."""

Value = str | float | bool


@dataclass(frozen=True)
class Condition:
    """A ``when`` that compares one output with a literal."""

    task: str
    output: str
    operator: Literal["==", "!="]
    literal: str
    output_quoted: bool = field(default=True, compare=False)
    """Whether the reference stands between quotes."""
    literal_quoted: bool = field(default=True, compare=False)

    def holds(self, value: str) -> bool:
        """Whether the condition is true for the output's value.

        Raises:
            ConfigurationError: Argo cannot evaluate it.
        """
        try:
            left, right = argo_value(value, self.output_quoted), argo_value(self.literal, self.literal_quoted)
        except ConfigurationError as error:
            raise ConfigurationError(f"when: {error}{'' if self.output_quoted else f'; write {self.quoted()}'}") from None
        return (type(left) is type(right) and left == right) == (self.operator == "==")

    def problem(self) -> str:
        """Return why the engines would understand it differently, with the remedy; empty if they do not."""
        if self.output_quoted and self.literal_quoted:
            return f"Argo reads {self.literal!r} as a time" if _TIME.fullmatch(self.literal) else ""
        try:
            plain = argo_value(self.literal, quoted=False)
        except ConfigurationError as error:
            return f"{error}; write {self.quoted()}"
        if isinstance(plain, float):
            return f"Argo compares {self.literal} as a number, where 1.0 equals 1; write {self.quoted()}"
        if self.output_quoted != self.literal_quoted and isinstance(plain, bool):
            return f"Argo compares text with a truth value; write {self.quoted()}"
        return ""

    def quoted(self) -> str:
        """Return the form that compares text on every engine."""
        return f"'{{{{tasks.{self.task}.outputs.parameters.{self.output}}}}}' {self.operator} '{self.literal}'"


def parse_condition(text: str) -> Condition | None:
    """Parse ``when``; None if it does not compare one output with a literal."""
    match = _CONDITION.fullmatch(text)
    output = TASK_OUTPUT.match(match["left"]) if match else None
    if not match or not output:
        return None
    operator: Literal["==", "!="] = "==" if match["operator"] == "==" else "!="
    return Condition(
        output["task"], output["output"], operator, match["literal"], bool(match["left_quote"]), bool(match["quote"])
    )


def argo_value(text: str, quoted: bool) -> Value:
    """Return the value of an operand, as govaluate reads it.

    Args:
        text: the operand, without its quotes.
        quoted: whether it stands between quotes.

    Raises:
        ConfigurationError: it is not exactly one operand.
    """
    if quoted:
        return _unescaped(text)
    word = text.strip()
    if word in _TRUTH:
        return _TRUTH[word]
    if _NUMBER.fullmatch(word):
        return float(int(word, 16)) if "x" in word else float(word)
    if _is_word(word):
        return word
    raise ConfigurationError(f"Argo cannot read {text!r} without quotes")


def _is_word(text: str) -> bool:
    """Whether govaluate reads a text as a variable: a letter, and then letters, digits and underscores."""
    kinds = [unicodedata.category(letter) for letter in text]
    is_variable = all(
        kind.startswith("L") or letter.isdecimal() or letter == "_" for kind, letter in zip(kinds, text, strict=True)
    )
    return bool(kinds) and kinds[0].startswith("L") and is_variable and text not in ("in", "IN")


def _unescaped(text: str) -> str:
    characters, letters = [], iter(text)
    for letter in letters:
        if letter in "'\"":
            raise ConfigurationError(f"Argo cannot read {text!r} between quotes, because it contains one")
        if letter == "\\" and not (letter := next(letters, "")):
            raise ConfigurationError(f"Argo cannot read {text!r} between quotes, because it ends with a backslash")
        characters.append(letter)
    return "".join(characters)
