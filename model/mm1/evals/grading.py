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
from mm1.evals.replies import KeptReplies, Question, Reply
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
            asks = [question.ask for question in questions]
            replies = list(self.load().generate(asks, max_new_tokens=grading.max_new_tokens))
            grades = self._read(replies, grading)
            if self.kept:  # after the check, so that a judge that was refused is asked again
                self.kept.write(questions, replies)
            return grades
        return self._read(replies, grading)

    def _read(self, replies: Sequence[Reply], grading: Grading) -> list[Grades]:
        texts = [reply.text for reply in replies if isinstance(reply, Completion)]
        grades = [grades_in(text, grading) for text in texts]
        bad = [text for text, each in zip(texts, grades, strict=True) if each is None]
        if len(bad) > MAX_BAD_SHARE * len(texts):
            raise DataError(
                f"judge {self.name}: {len(bad)} of {len(texts)} replies have no {len(grading.names)} number(s) from 0 to "
                f"{grading.scale:g}, such as {bad[0][:80]!r}: use a stronger model as the judge"
            )
        if grading.relative and not any(each[grading.relative[1]] for each in grades if each):
            raise DataError(f"judge {self.name}: all reference answers have the grade 0: use a stronger model as the judge")
        return [each or dict.fromkeys(grading.names, 0.0) for each in grades]


def _question(grading: Grading, prediction: str, item: Item) -> Question:
    ask = Conversation((Message("user", (grading.ask(prediction, item),)),))
    return Question(task="", ask=ask, choices=(), max_new_tokens=grading.max_new_tokens, stop=())


def grades_in(reply: str, grading: Grading) -> Grades | None:
    """Read the grades in a judge's reply: in the first line with nothing else, or else in the only line with as many numbers.

    The ``/10`` of ``8/10`` is not a number of its own.

    Returns:
        The grades, 0 to 1; None if no line has them, or several have others.
    """
    lines = [re.sub(rf"\s*/\s*{grading.scale:g}(?:\.0+)?(?![\w.])", " ", line) for line in reply.splitlines()]
    bare = [grades for line in lines if _ONLY_NUMBERS.fullmatch(line) and (grades := _grades_of(line, grading))]
    if bare:
        return bare[0]
    within = [grades for line in lines if (grades := _grades_of(line, grading))]
    return within[0] if within and all(grades == within[0] for grades in within) else None


def _grades_of(line: str, grading: Grading) -> Grades | None:
    numbers = [float(number) for number in _NUMBER.findall(line)]
    if len(numbers) != len(grading.names) or not all(0 <= number <= grading.scale for number in numbers):
        return None
    return {name: number / grading.scale for name, number in zip(grading.names, numbers, strict=True)}


def relative_grade(own: Sequence[float], reference: Sequence[float]) -> float:
    """Compute the mean grade in percent of the reference answers' mean grade; 0 if theirs is 0, as in a few resamples."""
    return 100 * fmean(own) / fmean(reference) if any(reference) else 0.0
