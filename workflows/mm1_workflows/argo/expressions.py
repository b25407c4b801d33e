"""The expressions in Argo objects that all engines of this project support.

References (``{{tasks.mix.outputs.parameters.manifest}}``), conditions (``{{...}} == pass``), conjunctions (``a && b``),
durations (``90s``) and the retry expression. The readers (:mod:`mm1_workflows.argo.graph`), the runner and the rules share
these functions, so that all parse them in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mm1.errors import RETRIED

REFERENCE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
TASK_OUTPUT = re.compile(r"^tasks\.(?P<task>[A-Za-z0-9][-A-Za-z0-9]*)\.outputs\.parameters\.(?P<output>[-\w]+)$")
_CONDITION = re.compile(
    r"^\s*\{\{\s*(?P<left>[^{}]+?)\s*\}\}\s*(?P<operator>==|!=)\s*(?P<quote>['\"]?)(?P<literal>[-\w.]+)(?P=quote)\s*$"
)
_RETRY = re.compile(r"asInt\(lastRetry\.exitCode\) in \[(?P<codes> *\d{1,3} *(, *\d{1,3} *)*)\]", re.ASCII)
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(h|ms|m|s)", re.ASCII)
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

RETRY_CODES = tuple(sorted(int(outcome) for outcome in RETRIED))
RETRY_EXPRESSION = f'asInt(lastRetry.exitCode) in [{", ".join(map(str, RETRY_CODES))}] || lastRetry.status == "Error"'
"""Retries transient outcome classes, and pods that the cluster lost (status Error)."""


@dataclass(frozen=True)
class Condition:
    """A ``when`` that compares one output with a literal."""

    task: str
    output: str
    operator: Literal["==", "!="]
    literal: str

    def holds(self, value: str) -> bool:
        """Whether the condition is true for the output's value."""
        return (value == self.literal) == (self.operator == "==")


def references(text: str) -> list[str]:
    """Return the references in a text, without braces, in order of appearance."""
    return REFERENCE.findall(text)


def substitute(text: str, lookup: Callable[[str], str]) -> str:
    """Replace references by values, once: braces inside a value are not substituted.

    Raises:
        KeyError: a reference is unknown to ``lookup``.
    """
    return REFERENCE.sub(lambda match: lookup(match[1]), text)


def task_outputs(texts: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (task, output) pairs that texts refer to."""
    matches = (TASK_OUTPUT.match(reference) for text in texts for reference in references(text))
    return {(match["task"], match["output"]) for match in matches if match}


def parse_condition(text: str) -> Condition | None:
    """Parse ``when``; None if it does not compare one output with a literal."""
    match = _CONDITION.match(text)
    output = TASK_OUTPUT.match(match["left"]) if match else None
    if not match or not output:
        return None
    return Condition(output["task"], output["output"], "==" if match["operator"] == "==" else "!=", match["literal"])


def parse_depends(text: str) -> list[str] | None:
    """Return the tasks of a plain conjunction; None for other expressions."""
    tasks = [task.strip() for task in text.split("&&")] if text.strip() else []
    return tasks if all(re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9]*", task) for task in tasks) else None


def parse_duration(value: str | float | None, default_s: float = 0.0) -> float:
    """Parse ``90``, ``90s`` or ``1h30m`` into seconds; 0 if it is not a duration (:func:`is_duration`)."""
    text = "" if value is None else str(value)
    if text == "":
        return default_s
    if is_number(text):
        return float(text)
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text))


def is_duration(value: str | float) -> bool:
    """Whether a value is a duration in Argo: seconds, or numbers with units."""
    return is_number(value) or re.fullmatch(f"({_DURATION.pattern})+", str(value), re.ASCII) is not None


def is_number(value: str | float) -> bool:
    """Whether a value is a non-negative integer, possibly as text."""
    return re.fullmatch(r"\d{1,18}", str(value), re.ASCII) is not None


def retry_codes(expression: str | None) -> frozenset[int] | None:
    """Return the exit codes that an expression retries; None if it does not list them."""
    match = _RETRY.search(expression or "")
    return frozenset(int(code) for code in match["codes"].split(",")) if match else None
