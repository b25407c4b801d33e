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
from mm1.evals.models.base import EvalModel
from mm1.evals.replies import KeptReplies, Question
from mm1.generation.prompt import Completion, Conversation, Message

Grades = Mapping[str, float]
"""Metric -> grade of one answer."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])")
_ONLY_NUMBERS = re.compile(r"[\d.,;/\s]*\d[\d.,;/\s]*")
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
    relative: tuple[str, str] | None = None
    """A grade, and that of the reference answers: their ratio in percent is the score `relative_grade`."""
    max_new_tokens: int = 64

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all its metrics, the headline first."""
        own = self.relative[0] if self.relative else self.names[0]
        others = tuple(name for name in self.names if name != own)
        return (own, *others, *(("relative_grade",) if self.relative else ()))


@dataclass(frozen=True)
class Judge:
    """A model that grades answers; it is loaded when the first answer needs it."""

    name: str
    load: Callable[[], EvalModel]
    kept: KeptReplies | None = None
    """Replies of earlier runs."""

    def grade(self, grading: Grading, predictions: Sequence[str], items: Sequence[Item]) -> list[Grades]:
        """Grade answers.

        Returns:
            The grades of each answer, 0 to 1.

        Raises:
            DataError: more than 5 % of the replies have no grades; fewer count as the lowest grade.
        """
        questions = [_question(grading, prediction, item) for prediction, item in zip(predictions, items, strict=True)]
        replies = self.kept.read(questions) if self.kept else None
        if replies is None:
            replies = list(
                self.load().generate([question.ask for question in questions], max_new_tokens=grading.max_new_tokens)
            )
            if self.kept:
                self.kept.write(questions, replies)
        texts = [reply.text for reply in replies if isinstance(reply, Completion)]
        grades = [grades_in(text, grading) for text in texts]
        bad = [text for text, each in zip(texts, grades, strict=True) if each is None]
        if len(bad) > MAX_BAD_SHARE * len(texts):
            raise DataError(
                f"judge {self.name}: {len(bad)} of {len(texts)} replies have no {len(grading.names)} number(s) from 0 to "
                f"{grading.scale:g}, such as {bad[0][:80]!r}: use a stronger model as the judge"
            )
        return [each or dict.fromkeys(grading.names, 0.0) for each in grades]


def _question(grading: Grading, prediction: str, item: Item) -> Question:
    ask = Conversation((Message("user", (grading.ask(prediction, item),)),))
    return Question(task="", ask=ask, choices=(), max_new_tokens=grading.max_new_tokens, stop=())


def grades_in(reply: str, grading: Grading) -> Grades | None:
    """Read the grades in a judge's reply: those of a line with nothing else, or the first line with enough numbers.

    Returns:
        The grades, 0 to 1; None if no line has them.
    """
    for line in sorted(reply.splitlines(), key=lambda line: not _ONLY_NUMBERS.fullmatch(line)):
        numbers = [float(number) for number in _NUMBER.findall(line)][: len(grading.names)]
        if len(numbers) == len(grading.names) and all(0 <= number <= grading.scale for number in numbers):
            return {name: number / grading.scale for name, number in zip(grading.names, numbers, strict=True)}
    return None


def relative_grade(own: Sequence[float], reference: Sequence[float]) -> float:
    """Compute the mean grade in percent of the reference answers' mean grade; NaN if theirs is 0."""
    return 100 * fmean(own) / fmean(reference) if any(reference) else float("nan")
