"""Free answers graded by a language model, the judge: its prompt, and the grades in its reply.

Any model that `mm1 eval` accepts can be the judge; published numbers of these benchmarks used GPT-4, and numbers of
different judges do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mm1.errors import DataError
from mm1.evals.items import Item
from mm1.evals.models.base import EvalModel, OnBatch
from mm1.generation.prompt import Conversation, Message

Grades = Mapping[str, float]
"""Metric -> grade of one answer."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])")
MAX_BAD_SHARE = 0.05
"""Share of replies without grades beyond which a judge is refused."""


@dataclass(frozen=True, kw_only=True)
class Grading:
    """How a task's answers are graded."""

    ask: Callable[[str, Item], str]
    """Prediction and item -> the judge's prompt."""
    names: tuple[str, ...]
    """Metrics, one for each number at the end of the judge's reply, in its order."""
    scale: float
    """Highest grade; grades are divided by it."""
    max_new_tokens: int = 64


def grade(
    judge: EvalModel, grading: Grading, predictions: Sequence[str], items: Sequence[Item], on_batch: OnBatch | None = None
) -> list[Grades]:
    """Let the judge grade answers.

    Returns:
        The grades of each answer, 0 to 1.

    Raises:
        DataError: more than 5 % of the judge's replies have no grades; fewer count as the lowest grade.
    """
    prompts = [grading.ask(prediction, item) for prediction, item in zip(predictions, items, strict=True)]
    asks = [Conversation((Message("user", (prompt,)),)) for prompt in prompts]
    replies = judge.generate(asks, max_new_tokens=grading.max_new_tokens, on_batch=on_batch)
    grades = [grades_in(reply.text, grading) for reply in replies]
    bad = [reply.text for reply, each in zip(replies, grades, strict=True) if each is None]
    if len(bad) > MAX_BAD_SHARE * len(replies):
        raise DataError(
            f"judge {judge.name}: {len(bad)} of {len(replies)} replies have no {len(grading.names)} number(s) from 0 to "
            f"{grading.scale:g}, such as {bad[0][:80]!r}: use a stronger model as the judge"
        )
    return [each or dict.fromkeys(grading.names, 0.0) for each in grades]


def grades_in(reply: str, grading: Grading) -> Grades | None:
    """Read the grades in a judge's reply: the first numbers on a line that has enough of them; None if there is none."""
    for line in reply.splitlines():
        numbers = [float(number) for number in _NUMBER.findall(line)][: len(grading.names)]
        if len(numbers) == len(grading.names) and all(0 <= number <= grading.scale for number in numbers):
            return {name: number / grading.scale for name, number in zip(grading.names, numbers, strict=True)}
    return None


def relative_score(grades: Sequence[Grades], own: str, reference: str) -> float:
    """Compute the mean of a grade relative to that of the reference answers, in percent."""
    total = fmean(each[reference] for each in grades)
    return 100 * fmean(each[own] for each in grades) / total if total else float("nan")
