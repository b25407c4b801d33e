"""Questions about two images that take two steps, with the steps that lead to the answer (few-shot chain of thought, MM1 5).

- ``more``: "which has more ?": "two and one so first";
- ``size``: "same size ?": "big and small so no";
- ``sum``: "how many in all ?": "two and three so five".

The first step names what each image shows, the second one combines it. Without the steps the answer follows the question at
once. The steps come before :data:`SO`, the answer after it. Half a million parameters do not learn to compare six colours or
five shapes in 500 steps, not even as words; two sizes they do.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from mm1.world.language import COUNTS, SIZES
from mm1.world.scene import Scene, SceneSampler

SO = "so"
"""Word between the steps and the answer."""
COMPARE_KINDS = ("more", "size")
MAX_PER_IMAGE = 3
"""Maximum number of objects in an image."""


class TwoStep(NamedTuple):
    """A question with its steps, its answer and all possible answers, and the values that the two images show."""

    question: str
    steps: str
    answer: str
    options: tuple[str, ...]
    values: tuple[int, int]

    def reply(self, *, with_steps: bool) -> str:
        """Return the answer, after the steps if they are shown."""
        return f"{self.steps} {SO} {self.answer}" if with_steps else self.answer


class _Kind(NamedTuple):
    question: str
    vocabulary: tuple[str, ...]
    """Words of the values."""
    options: tuple[str, ...]
    draw: Callable[[Random], tuple[int, int]]
    """Draws the values; all answers are equally likely."""
    answer: Callable[[int, int], str]


def _different_counts(rng: Random) -> tuple[int, int]:
    first, second = rng.sample(range(1, MAX_PER_IMAGE + 1), 2)
    return first, second


def _summands(rng: Random) -> tuple[int, int]:
    total = rng.randint(2, 2 * MAX_PER_IMAGE)
    first = rng.randint(max(1, total - MAX_PER_IMAGE), min(MAX_PER_IMAGE, total - 1))
    return first, total - first


def _sizes(rng: Random) -> tuple[int, int]:
    return rng.randrange(len(SIZES)), rng.randrange(len(SIZES))


_KINDS = {
    "more": _Kind(
        "which has more ?",
        COUNTS,
        ("first", "second"),
        _different_counts,
        lambda first, second: "first" if first > second else "second",
    ),
    "size": _Kind("same size ?", SIZES, ("yes", "no"), _sizes, lambda first, second: "yes" if first == second else "no"),
    "sum": _Kind("how many in all ?", COUNTS, COUNTS[2:], _summands, lambda first, second: COUNTS[first + second]),
}

STEP_KINDS = tuple(_KINDS)


def two_step(kind: str, rng: Random) -> TwoStep:
    """Draw a question of one of the :data:`STEP_KINDS`, without its images."""
    question, vocabulary, options, draw, answer = _KINDS[kind]
    values = draw(rng)
    steps = " and ".join(vocabulary[value] for value in values)
    return TwoStep(question, steps, answer(*values), options, values)


def illustrate(kind: str, drawn: TwoStep, sampler: SceneSampler) -> tuple[Scene, ...]:
    """Draw the two images of a question."""
    if kind == "size":
        return tuple(sampler.single(size=size) for size in drawn.values)
    return tuple(sampler.single() if count == 1 else sampler.several(count=count) for count in drawn.values)
