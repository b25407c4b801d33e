"""The expressions in Argo objects that all engines of this project support.

References (``{{tasks.mix.outputs.parameters.manifest}}``), conjunctions (``a && b``) and durations (``90s``). The readers
(:mod:`mm1_workflows.argo.graph`), the runner and the rules share these functions, so that all parse them in the same way.
Conditions are in :mod:`mm1_workflows.argo.conditions`, retries in :mod:`mm1_workflows.argo.retries`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

REFERENCE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
TASK_OUTPUT = re.compile(r"^tasks\.(?P<task>[A-Za-z0-9][-A-Za-z0-9]*)\.outputs\.parameters\.(?P<output>[-\w]+)$")
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(h|ms|m|s)", re.ASCII)
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


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
