"""Sentences behind some skills of the text benchmark: small counterparts of TextCore's tasks (MM1 3.3), and steps.

- ``last`` (LAMBADA): the last word follows from an earlier sentence; animals go to places other than their homes;
- ``pronoun`` (WinoGrande): an adjective decides to which of two nouns "it" refers;
- ``bigger`` (PIQA, of the physical world): which of two animals is bigger;
- ``ending`` (HellaSwag): the plausible end of a sentence, among ends that are wrong or make no sense;
- ``steps``: the last step of the questions in :mod:`mm1.world.steps`, whose pictures are then no longer needed.

Each skill is a function that draws a prompt, the answer, and the choices if there are some; a document of the text part is a
few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mm1.world import language
from mm1.world.language import ANIMALS, ANIMALS_BY_SIZE, FOODS, HOMES
from mm1.world.steps import SO, STEP_KINDS, two_step

Question = tuple[str, str, tuple[str, ...]]
"""Prompt, answer, and choices; without choices the answer is free."""

REASONS = (("ate", FOODS, "hungry", "fresh"), ("left", HOMES, "tired", "dark"))
"""Verb and objects, adjective of the subject, adjective of the object."""


def _last(rng: Random) -> Question:
    animals, places = rng.sample(ANIMALS, 2), rng.sample(HOMES, 2)
    moves = " and ".join(f"the {animal} ran to the {place}" for animal, place in zip(animals, places, strict=True))
    index = rng.randrange(2)
    return f"{moves} . the {animals[index]} is in the", places[index], ()


def _pronoun(rng: Random) -> Question:
    verb, objects, *adjectives = rng.choice(REASONS)
    nouns = (rng.choice(ANIMALS), rng.choice(objects))
    index = rng.randrange(2)
    adjective = adjectives[index]
    prompt = f"the {nouns[0]} {verb} the {nouns[1]} because it was {adjective} . what was {adjective} ? the"
    return prompt, nouns[index], nouns


def _bigger(rng: Random) -> Question:
    pair = tuple(rng.sample(ANIMALS_BY_SIZE, 2))
    return f"which is bigger , the {pair[0]} or the {pair[1]} ? the", max(pair, key=ANIMALS_BY_SIZE.index), pair


def _ending(rng: Random) -> Question:
    animal = rng.choice(ANIMALS)
    home, food = language.home_of(animal), language.food_of(animal)
    wrong = rng.choice([other for other in FOODS if other != food])
    choices = [f"eats {food}", f"eats {wrong}", f"eats the {home}", f"lives in the {food}"]
    answer = choices[0]
    rng.shuffle(choices)
    return f"the {animal} lives in the {home} and", answer, tuple(choices)


def _steps(rng: Random) -> Question:
    drawn = two_step(rng.choice(STEP_KINDS), rng)
    return f"{drawn.question} {drawn.steps} {SO}", drawn.answer, drawn.options


SKILLS: dict[str, Callable[[Random], Question]] = {
    "last": _last,
    "pronoun": _pronoun,
    "bigger": _bigger,
    "ending": _ending,
    "steps": _steps,
}
"""The skills by name."""


def document(skill: str, rng: Random) -> str:
    """Write a few questions of one skill, with their answers."""
    return " ".join(f"{prompt} {answer} ." for prompt, answer, _ in (SKILLS[skill](rng) for _ in range(rng.randint(2, 6))))
