"""Instructions about one image: each form has exactly one correct answer, so an evaluation can use exact match.

None is phrased like the pre-training texts, so a base model must be tuned to answer it.
"""

from __future__ import annotations

from collections.abc import Callable

from mm1.world import language
from mm1.world.language import COLOURS, PLACES, SHAPES
from mm1.world.marks import MARK_QUESTION, MARKS, mark_of, shows_marks
from mm1.world.scene import Scene, SceneSampler

Form = Callable[[Scene, SceneSampler], tuple[str, str]]
"""Converts a scene to an instruction and its answer."""


def description(scene: Scene) -> str:
    """Describe all objects of a scene with their places."""
    return language.join([f"a {language.phrase(thing)} at the {PLACES[thing.place]}" for thing in scene.objects])


def _describe(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    return "describe the image in detail .", f"the image shows {description(scene)} ."


def _one_word(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    question, answer = language.question(rng.choice(("colour", "size", "where", "count")), scene, rng.choice(scene.objects))
    return f"{question} answer with one word .", answer


def _sentence(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    thing = rng.choice(scene.objects)
    kind = rng.choice(("colour", "size", "where"))
    question, answer = language.question(kind, scene, thing)
    joint = "is at the" if kind == "where" else "is"
    return f"{question} answer in a full sentence .", f"the {SHAPES[thing.shape]} {joint} {answer} ."


def _list(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    kind = sampler.rng.choice(("shapes", "colours"))
    column = 2 if kind == "shapes" else 1
    # Objects in the order of their places; a colour shared by two objects is repeated.
    return f"list the {kind} .", " , ".join(language.words_of(thing)[column] for thing in scene.objects)


def _yes_no(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    column, vocabulary = rng.choice(((1, COLOURS), (2, SHAPES)))
    present = {language.words_of(thing)[column] for thing in scene.objects}
    is_present = rng.random() < 0.5
    word = rng.choice([word for word in vocabulary if (word in present) == is_present])
    name = f"{word} object" if column == 1 else word
    return f"is there a {name} ? answer yes or no .", "yes" if is_present else "no"


INSTRUCTION_FORMS: dict[str, Form] = {
    "describe": _describe,
    "one word": _one_word,
    "sentence": _sentence,
    "list": _list,
    "yes or no": _yes_no,
}
"""The forms by name: each converts a scene to an instruction and its only correct answer."""


def mark_question(scene: Scene) -> tuple[str, str]:
    """Ask for the fine mark of an image (:mod:`mm1.world.marks`)."""
    return f"{MARK_QUESTION} answer with one word .", MARKS[mark_of(scene)]


def forms_of(image_size_px: int) -> dict[str, Form]:
    """Return the forms for images of a size: those with fine marks are also asked for them."""
    return INSTRUCTION_FORMS | ({"mark": lambda scene, _: mark_question(scene)} if shows_marks(image_size_px) else {})
