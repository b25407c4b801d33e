"""Questions that take two steps, each with the steps that lead to its answer (few-shot chain of thought, MM1 6.4).

Four kinds are about two images, one about two objects of an image:

- ``more``: "which has more ?": "two and one so first";
- ``colour`` and ``shape``: "same colour ?": "red and cyan so no";
- ``sum``: "how many in all ?": "two and three so five";
- ``beside``: "what colour is beside the ring ?": "cross so red".

Without the steps the answer follows the question at once. The steps come before :data:`SO`, the answer after it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from mm1.world.language import COLOURS, COUNTS, SHAPES
from mm1.world.scene import Scene, SceneSampler

SO = "so"
"""Word between the steps and the answer."""
COMPARE_KINDS = ("more", "colour", "shape")
MAX_PER_IMAGE = 3
"""Maximum number of objects in an image."""


class TwoStep(NamedTuple):
    """A question about images, in order, with its steps, its answer and all possible answers."""

    images: tuple[Scene, ...]
    question: str
    steps: str
    answer: str
    options: tuple[str, ...]

    def reply(self, *, with_steps: bool) -> str:
        """Return the answer, after the steps if they are shown."""
        return f"{self.steps} {SO} {self.answer}" if with_steps else self.answer


def _with_count(count: int, sampler: SceneSampler) -> Scene:
    return sampler.single() if count == 1 else sampler.several(count=count)


def _more(sampler: SceneSampler, rng: Random) -> TwoStep:
    counts = rng.sample(range(1, MAX_PER_IMAGE + 1), 2)
    first, second = (_with_count(count, sampler) for count in counts)
    answer = "first" if counts[0] > counts[1] else "second"
    return TwoStep((first, second), "which has more ?", _listed(COUNTS, counts), answer, ("first", "second"))


def _sum(sampler: SceneSampler, rng: Random) -> TwoStep:
    """Draw two images; all sums are equally likely."""
    total = rng.randint(2, 2 * MAX_PER_IMAGE)
    first = rng.randint(max(1, total - MAX_PER_IMAGE), min(MAX_PER_IMAGE, total - 1))
    counts = [first, total - first]
    images = _with_count(counts[0], sampler), _with_count(counts[1], sampler)
    return TwoStep(images, "how many in all ?", _listed(COUNTS, counts), COUNTS[total], COUNTS[2 : 2 * MAX_PER_IMAGE + 1])


def _same(attribute: str, vocabulary: tuple[str, ...]) -> Callable[[SceneSampler, Random], TwoStep]:
    """Compare an attribute of the objects of two images, which are equal in half of the cases."""

    def draw(sampler: SceneSampler, rng: Random) -> TwoStep:
        first = sampler.single()
        value: int = getattr(first.objects[0], attribute)
        others = [other for other in range(len(vocabulary)) if other != value]
        values = [value, value if rng.random() < 0.5 else rng.choice(others)]
        second = sampler.single(**{attribute: values[1]})
        answer = "yes" if values[0] == values[1] else "no"
        return TwoStep((first, second), f"same {attribute} ?", _listed(vocabulary, values), answer, ("yes", "no"))

    return draw


def _beside(sampler: SceneSampler, rng: Random) -> TwoStep:
    scene = sampler.several(count=2)
    known, other = rng.sample(scene.objects, 2)
    question = f"what colour is beside the {SHAPES[known.shape]} ?"
    return TwoStep((scene,), question, SHAPES[other.shape], COLOURS[other.colour], COLOURS)


def _listed(vocabulary: tuple[str, ...], values: list[int]) -> str:
    return " and ".join(vocabulary[value] for value in values)


_DRAWS: dict[str, Callable[[SceneSampler, Random], TwoStep]] = {
    "more": _more,
    "colour": _same("colour", COLOURS),
    "shape": _same("shape", SHAPES),
    "sum": _sum,
    "beside": _beside,
}

STEP_KINDS = tuple(_DRAWS)


def two_step(kind: str, sampler: SceneSampler) -> TwoStep:
    """Draw a question of one of the :data:`STEP_KINDS`."""
    return _DRAWS[kind](sampler, sampler.rng)
