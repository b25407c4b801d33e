"""Conversations about several images: all before one question (``multi``), or one more with each turn (``turns``).

Each answer follows from the images it is about, and most cannot be given from one of them.
"""

from __future__ import annotations

from collections.abc import Callable

from mm1.world import language
from mm1.world.instruction_forms import INSTRUCTION_FORMS, description
from mm1.world.language import COUNTS, SHAPES
from mm1.world.llava import Chat, Turn
from mm1.world.scene import Scene, SceneSampler

Pairs = tuple[str, str]
NUMBERS = COUNTS[1:]
"""Words for the images of a conversation, the first one first."""


def _colour(scenes: list[Scene], sampler: SceneSampler) -> Pairs:
    index = sampler.rng.randrange(len(scenes))
    thing = sampler.rng.choice(scenes[index].objects)
    size, colour, shape = language.words_of(thing)
    asked, answer = sampler.rng.choice((("colour", colour), ("size", size)))
    return f"what {asked} is the {shape} in image {NUMBERS[index]} ? answer with one word .", answer


def _describe(scenes: list[Scene], sampler: SceneSampler) -> Pairs:
    index = sampler.rng.randrange(len(scenes))
    return f"describe image {NUMBERS[index]} in detail .", f"image {NUMBERS[index]} shows {description(scenes[index])} ."


def _which(scenes: list[Scene], sampler: SceneSampler) -> Pairs:
    """Ask which image has an object that exactly one of them has; if there is none, for a description."""
    shapes = [{thing.shape for thing in scene.objects} for scene in scenes]
    unique = [
        (index, shape) for index, own in enumerate(shapes) for shape in sorted(own) if sum(shape in s for s in shapes) == 1
    ]
    if not unique:
        return _describe(scenes, sampler)
    index, shape = sampler.rng.choice(unique)
    return f"which image has a {SHAPES[shape]} ? answer with one word .", NUMBERS[index]


def _more(scenes: list[Scene], sampler: SceneSampler) -> Pairs:
    """Ask which image has more objects; if the first place is shared, for a description."""
    counts = [len(scene.objects) for scene in scenes]
    if counts.count(max(counts)) > 1:
        return _describe(scenes, sampler)
    return "which image has more objects ? answer with one word .", NUMBERS[counts.index(max(counts))]


def _same(scenes: list[Scene], sampler: SceneSampler) -> Pairs:
    rng = sampler.rng
    first, second = sorted(rng.sample(range(len(scenes)), 2))
    shapes = [{thing.shape for thing in scenes[index].objects} for index in (first, second)]
    in_both, in_one = sorted(shapes[0] & shapes[1]), sorted(shapes[0] ^ shapes[1])
    is_same = bool(in_both) and (rng.random() < 0.5 or not in_one)
    shape = SHAPES[rng.choice(in_both if is_same else in_one)]
    question = f"is there a {shape} in image {NUMBERS[first]} and in image {NUMBERS[second]} ? answer yes or no ."
    return question, "yes" if is_same else "no"


FORMS: dict[str, Callable[[list[Scene], SceneSampler], Pairs]] = {
    "colour": _colour,
    "describe": _describe,
    "which": _which,
    "more": _more,
    "same": _same,
}
"""Questions about several images: each converts scenes to a question and its only correct answer."""


def multi(sampler: SceneSampler) -> tuple[Chat, list[Scene]]:
    """Draw a conversation with two or three images before its first question, and one or two questions."""
    rng = sampler.rng
    scenes = [sampler.any() for _ in range(rng.choice((2, 3)))]
    pairs = [FORMS[form](scenes, sampler) for form in rng.sample(list(FORMS), rng.choice((1, 2)))]
    return Chat(tuple(Turn(*pair, len(scenes) if number == 0 else 0) for number, pair in enumerate(pairs))), scenes


def turns(sampler: SceneSampler) -> tuple[Chat, list[Scene]]:
    """Draw a conversation of two or three turns: a question about each of two new images, and possibly one about both."""
    rng = sampler.rng
    scenes = [sampler.any() for _ in range(2)]
    chat = [Turn(*INSTRUCTION_FORMS[rng.choice(list(INSTRUCTION_FORMS))](scene, sampler), 1) for scene in scenes]
    if rng.random() < 0.5:
        chat.append(Turn(*FORMS[rng.choice(list(FORMS))](scenes, sampler)))
    return Chat(tuple(chat)), scenes


KINDS: dict[str, tuple[float, Callable[[SceneSampler], tuple[Chat, list[Scene]]]]] = {
    "multi": (0.10, multi),
    "turns": (0.05, turns),
}
"""Kinds of conversations -> their number relative to the conversations about at most one image, and how they are drawn."""
