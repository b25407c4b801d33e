"""Items of the text benchmark: a prompt, the expected next word, and choices if the answer is one of a few.

The kinds are those of :mod:`mm1.world.texts` with a definite answer, equally often. Facts and sums test memorisation;
copy, binding and scene test the use of information in the prompt; the skills are described in :mod:`mm1.world.skills`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict

from mm1.world import language
from mm1.world.language import ANIMALS, FOODS, HOMES
from mm1.world.scene import SceneSampler
from mm1.world.skills import SKILLS
from mm1.world.texts import bound_things, facts_about, pieces, ring_of_words, scene_question


class TextItem(TypedDict, total=False):
    """A row of ``text.jsonl``."""

    id: str
    kind: str
    prompt: str
    answer: str
    choices: list[str]


def _facts(sampler: SceneSampler) -> TextItem:
    index = sampler.rng.randrange(4)
    prompt, answer = facts_about(sampler.rng.choice(ANIMALS))[index]
    return {"prompt": prompt, "answer": answer, "choices": list((HOMES, FOODS)[index % 2])}


def _sums(sampler: SceneSampler) -> TextItem:
    left, right = sampler.rng.randrange(10), sampler.rng.randrange(10)
    return {"prompt": f"{left} plus {right} is", "answer": str(left + right)}


def _copy(sampler: SceneSampler) -> TextItem:
    """Write pieces of a ring of words; the question is which word follows one of them."""
    rng = sampler.rng
    ring = ring_of_words(rng)
    ring_pieces = pieces(ring, 3, rng)
    index = rng.randrange(len(ring))
    return {"prompt": " . ".join([*ring_pieces, ring[index]]), "answer": ring[(index + 1) % len(ring)], "choices": ring}


def _binding(sampler: SceneSampler) -> TextItem:
    """Name two things four times each in mixed order, followed by one of them again."""
    rng = sampler.rng
    things, names = bound_things(2, sampler), rng.sample(language.NONCE_WORDS, 2)
    order = [0, 1] * 4
    rng.shuffle(order)
    sentences = " ".join(f"{things[index]} {names[index]} ." for index in order)
    index = rng.randrange(2)
    return {"prompt": f"{sentences} {things[index]}", "answer": names[index], "choices": names}


def _scene(sampler: SceneSampler) -> TextItem:
    context, question, answer = scene_question(sampler)
    return {"prompt": f"{context} {question}", "answer": answer}


def _skill(skill: str, sampler: SceneSampler) -> TextItem:
    prompt, answer, choices = SKILLS[skill](sampler.rng)
    item: TextItem = {"prompt": prompt, "answer": answer}
    return {**item, "choices": list(choices)} if choices else item


_ITEMS: dict[str, Callable[[SceneSampler], TextItem]] = {
    "facts": _facts,
    "sums": _sums,
    "copy": _copy,
    "binding": _binding,
    "scene": _scene,
    **{skill: partial(_skill, skill) for skill in SKILLS},
}

ITEM_KINDS = tuple(_ITEMS)


def text_items(sampler: SceneSampler, count: int, kinds: Sequence[str] = ITEM_KINDS) -> list[TextItem]:
    """Create ``count`` items, cycling through the kinds."""
    items: list[TextItem] = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        item: TextItem = {"id": f"text-{number:05d}", "kind": kind}
        item.update(_ITEMS[kind](sampler))
        items.append(item)
    return items
