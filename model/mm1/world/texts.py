"""The text part: documents without images, as jsonl rows ``{"id", "kind", "text"}``.

``binding`` is the largest kind, because in-context learning starts with text and transfers to images: images described
in words, each followed by an invented name that is specific to the document. ``copy`` requires copying by
content: words follow each other in a fixed ring, given in pieces that start anywhere. (Verbatim repetition teaches copying
by distance instead: such a model copies perfectly and binds at chance level.) ``facts`` and ``sums`` are to be memorised;
``scene`` describes an image in words and asks about it. ``notes`` are meaningless; they contain the words that occur
only in conversations, so that a tokenizer trained on pre-training texts knows them, as a real one would. The other kinds are
the skills of :mod:`mm1.world.skills`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.language import ANIMALS, COLOURS, FOODS, HOMES, PLACES, SHAPES, SIZES
from mm1.world.scene import SceneSampler, Split, held_out_pairs
from mm1.world.skills import SKILLS, document

TEXT_KINDS = {
    "binding": 0.56,
    "scene": 0.10,
    "facts": 0.05,
    "sums": 0.07,
    "copy": 0.08,
    "notes": 0.02,
    **dict.fromkeys(SKILLS, 0.02),
    "steps": 0.04,
}

NUM_THINGS = (2, 2, 2, 3, 3, 4, 5)
"""Number of things in a binding document, drawn from these: mostly few, so that their names recur soon."""

MAX_SENTENCES = 12
"""Maximum number of sentences in a binding document."""

LINK_SHARE = 0.1
"""Fraction of binding documents with "this is" before a name, as on pages with images."""

RING_WORDS = (*ANIMALS, *HOMES, *FOODS, *(str(number) for number in range(10)))
BARE_WORDS = (*ANIMALS, *HOMES, *FOODS, *SHAPES, *COLOURS)
THING_FORMS = {"bare": 0.85, "pair": 0.05, "full": 0.10}
"""How a binding document describes its things: by one word, by colour and shape, or in full. The skill is learned on the
single words (a name right after a word) and carries over; with half as many of them, it appears hundreds of steps later."""

NOTED_WORDS = ("shapes", "colours", "full", "describe", "detail", "list", "user", "assistant", "word", "sentence", "object")


def bound_things(count: int, sampler: SceneSampler) -> list[str]:
    """Draw different things to be named, all described in one of the :data:`THING_FORMS`."""
    rng = sampler.rng
    form = rng.choices(list(THING_FORMS), list(THING_FORMS.values()))[0]
    if form == "bare":
        return rng.sample(BARE_WORDS, count)
    pairs = [f"{COLOURS[colour]} {SHAPES[shape]}" for shape, colour in rng.sample(sampler.pairs, count)]
    return pairs if form == "pair" else [f"{rng.choice(SIZES)} {pair}" for pair in pairs]


def binding(sampler: SceneSampler) -> str:
    """Write things and their names: "big red ring dax . small blue cross wug . big red ring dax ."."""
    rng = sampler.rng
    things = bound_things(rng.choice(NUM_THINGS), sampler)
    names = rng.sample(language.NONCE_WORDS, len(things))
    link = f"{language.LINK} " if rng.random() < LINK_SHARE else ""
    num_sentences = rng.randint(2 * len(things), MAX_SENTENCES)
    order = [rng.randrange(len(things)) for _ in range(num_sentences)]
    return " ".join(f"{things[index]} {link}{names[index]} ." for index in order)


def scene_question(sampler: SceneSampler) -> tuple[str, str, str]:
    """Draw a scene in words, with a question about it and the answer."""
    rng = sampler.rng
    scene = sampler.several()
    description = " ".join(f"a {language.phrase(thing)} is at the {PLACES[thing.place]} ." for thing in scene.objects)
    kind = rng.choice([kind for kind in language.QUESTION_KINDS if kind != "tag"])
    return description, *language.question(kind, scene, rng.choice(scene.objects))


def _scene(sampler: SceneSampler) -> str:
    stories = [scene_question(sampler) for _ in range(sampler.rng.randint(1, 2))]
    return " ".join(f"{description} {language.ask(question, answer)}" for description, question, answer in stories)


def facts_about(animal: str) -> tuple[tuple[str, str], ...]:
    """State facts about an animal as beginnings and endings of sentences: two statements and two questions."""
    home, food = language.home_of(animal), language.food_of(animal)
    return (
        (f"the {animal} lives in the", home),
        (f"the {animal} eats", food),
        (f"where does the {animal} live ?", home),
        (f"what does the {animal} eat ?", food),
    )


def _facts(sampler: SceneSampler) -> str:
    rng = sampler.rng
    facts = [rng.choice(facts_about(rng.choice(ANIMALS))) for _ in range(rng.randint(3, 8))]
    return " ".join(f"{start} {end} ." for start, end in facts)


def _sums(sampler: SceneSampler) -> str:
    rng = sampler.rng
    pairs = [(rng.randrange(10), rng.randrange(10)) for _ in range(rng.randint(3, 9))]
    return " ".join(f"{left} plus {right} is {left + right} ." for left, right in pairs)


def ring_of_words(rng: Random) -> list[str]:
    """Draw distinct words, each followed by the next one in this document, and the last by the first."""
    return rng.sample(RING_WORDS, rng.randint(4, 10))


def pieces(ring: list[str], count: int, rng: Random) -> list[str]:
    """Write the whole ring, followed by ``count`` pieces of two to six words with random starts."""
    result = [" ".join([*ring, ring[0]])]
    for _ in range(count):
        start = rng.randrange(len(ring))
        result.append(" ".join(ring[(start + step) % len(ring)] for step in range(rng.randint(2, 5))))
    return result


def _copy(sampler: SceneSampler) -> str:
    rng = sampler.rng
    return "".join(f"{piece} . " for piece in pieces(ring_of_words(rng), rng.randint(3, 12), rng)).rstrip()


def _notes(sampler: SceneSampler) -> str:
    subjects, objects = (
        ("the user", "the assistant", "a sentence", "a word"),
        ("the answer", "a list", "the object", "a detail"),
    )
    sentences = []
    for _ in range(sampler.rng.randint(3, 6)):
        first, second = sampler.rng.sample(NOTED_WORDS, 2)
        sentences.append(f"{sampler.rng.choice(subjects)} shows {sampler.rng.choice(objects)} with {first} or {second} .")
    return " ".join(sentences)


def _skill(skill: str, sampler: SceneSampler) -> str:
    return document(skill, sampler.rng)


_DOCUMENTS: dict[str, Callable[[SceneSampler], str]] = {
    "binding": binding,
    "scene": _scene,
    "facts": _facts,
    "sums": _sums,
    "copy": _copy,
    "notes": _notes,
    **{skill: partial(_skill, skill) for skill in SKILLS},
}


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the text part into an existing folder.

    Returns:
        Number of documents of each kind, and number of words.
    """
    rng = streams.choices(config.seed, "text")
    # Texts have no pixels; the sampler provides words without held-out pairs.
    sampler = SceneSampler(rng, Split.TRAIN, held_out_pairs(config))
    counts = dict.fromkeys([*TEXT_KINDS, "words"], 0)
    for file, start in enumerate(range(0, config.num_texts, config.texts_per_file)):
        with (folder / f"text-{file:05d}.jsonl").open("w", encoding="utf-8") as lines:
            for number in range(start, min(start + config.texts_per_file, config.num_texts)):
                kind = rng.choices(list(TEXT_KINDS), list(TEXT_KINDS.values()))[0]
                text = _DOCUMENTS[kind](sampler)
                lines.write(json.dumps({"id": f"text-{number:08d}", "kind": kind, "text": text}) + "\n")
                counts[kind] += 1
                counts["words"] += language.num_words(text)
    return counts
