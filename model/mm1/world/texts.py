"""The text part: documents without images, as jsonl rows ``{"id", "kind", "text"}``.

Six kinds. ``binding`` is the largest, because learning in context starts on the language side and crosses over to
images: pictures in words, each followed by an invented name that holds in this document only. ``copy`` copies by
content: words follow each other in a fixed ring, told in pieces that start anywhere. (Strings repeated as they are teach
copying by distance instead: such a model copies without fault and binds at chance.) ``facts`` and ``sums`` are there
to be memorised; ``scene`` describes a picture in words and asks about it. ``notes`` say nothing of use; they hold the
words that only conversations need, so that a tokenizer trained on pre-training texts knows them, as a real one would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.language import ANIMALS, COLOURS, FOODS, HOMES, PLACES, SHAPES, SIZES
from mm1.world.scene import SceneSampler, Split, held_out_pairs

TEXT_KINDS = {"binding": 0.64, "scene": 0.11, "facts": 0.06, "sums": 0.08, "copy": 0.09, "notes": 0.02}

NUM_THINGS = (2, 2, 2, 3, 3, 4, 5)
"""Things of a binding document, drawn from here: mostly few, so that their names return soon."""

MOST_SENTENCES = 12
"""Sentences of a binding document at most."""

LINK_SHARE = 0.1
"""Share of the binding documents that say "this is" before a name, as the pages with images do."""

RING_WORDS = (*ANIMALS, *HOMES, *FOODS, *(str(number) for number in range(10)))
BARE_WORDS = (*ANIMALS, *HOMES, *FOODS, *SHAPES, *COLOURS)
THING_FORMS = {"bare": 0.85, "pair": 0.05, "full": 0.10}
"""How a binding document describes its things: by one word, by colour and shape, or in full. The skill is learned on the
bare ones (a name right after a word) and carries over; half as many of them, and it comes hundreds of steps later."""

NOTED_WORDS = ("shapes", "colours", "full", "describe", "detail", "list", "user", "assistant", "word", "sentence", "object")


def bound_things(count: int, sampler: SceneSampler) -> list[str]:
    """Different things to be named, all described in one of the :data:`THING_FORMS`."""
    rng = sampler.rng
    form = rng.choices(list(THING_FORMS), list(THING_FORMS.values()))[0]
    if form == "bare":
        return rng.sample(BARE_WORDS, count)
    pairs = [f"{COLOURS[colour]} {SHAPES[shape]}" for shape, colour in rng.sample(sampler.pairs, count)]
    return pairs if form == "pair" else [f"{rng.choice(SIZES)} {pair}" for pair in pairs]


def binding(sampler: SceneSampler) -> str:
    """Things and their names: "big red ring dax . small blue cross wug . big red ring dax ."."""
    rng = sampler.rng
    things = bound_things(rng.choice(NUM_THINGS), sampler)
    names = rng.sample(language.NONCE_WORDS, len(things))
    link = f"{language.LINK} " if rng.random() < LINK_SHARE else ""
    num_sentences = rng.randint(2 * len(things), MOST_SENTENCES)
    order = [rng.randrange(len(things)) for _ in range(num_sentences)]
    return " ".join(f"{things[index]} {link}{names[index]} ." for index in order)


def scene_question(sampler: SceneSampler) -> tuple[str, str, str]:
    """A scene in words, a question about it and the answer."""
    rng = sampler.rng
    scene = sampler.several()
    told = " ".join(f"a {language.phrase(thing)} is at the {PLACES[thing.place]} ." for thing in scene.objects)
    kind = rng.choice([kind for kind in language.QUESTION_KINDS if kind != "tag"])
    return told, *language.question(kind, scene, rng.choice(scene.objects))


def _scene(sampler: SceneSampler) -> str:
    stories = [scene_question(sampler) for _ in range(sampler.rng.randint(1, 2))]
    return " ".join(f"{told} {language.ask(asked, answer)}" for told, asked, answer in stories)


def facts_about(animal: str) -> tuple[tuple[str, str], ...]:
    """What is known of an animal, as beginnings and endings of sentences, two statements and two questions."""
    home, food = language.home_of(animal), language.food_of(animal)
    return (
        (f"the {animal} lives in the", home),
        (f"the {animal} eats", food),
        (f"where does the {animal} live ?", home),
        (f"what does the {animal} eat ?", food),
    )


def _facts(sampler: SceneSampler) -> str:
    rng = sampler.rng
    told = [rng.choice(facts_about(rng.choice(ANIMALS))) for _ in range(rng.randint(3, 8))]
    return " ".join(f"{start} {end} ." for start, end in told)


def _sums(sampler: SceneSampler) -> str:
    rng = sampler.rng
    pairs = [(rng.randrange(10), rng.randrange(10)) for _ in range(rng.randint(3, 9))]
    return " ".join(f"{one} plus {two} is {one + two} ." for one, two in pairs)


def ring_of_words(rng: Random) -> list[str]:
    """Different words, each of which is followed by the next in this document, the last by the first."""
    return rng.sample(RING_WORDS, rng.randint(4, 10))


def pieces(ring: list[str], count: int, rng: Random) -> list[str]:
    """The whole ring, then ``count`` pieces of it of two to six words, from any start."""
    told = [" ".join([*ring, ring[0]])]
    for _ in range(count):
        start = rng.randrange(len(ring))
        told.append(" ".join(ring[(start + step) % len(ring)] for step in range(rng.randint(2, 5))))
    return told


def _copy(sampler: SceneSampler) -> str:
    rng = sampler.rng
    return "".join(f"{piece} . " for piece in pieces(ring_of_words(rng), rng.randint(3, 12), rng)).rstrip()


def _notes(sampler: SceneSampler) -> str:
    subjects, objects = (
        ("the user", "the assistant", "a sentence", "a word"),
        ("the answer", "a list", "the object", "a detail"),
    )
    told = []
    for _ in range(sampler.rng.randint(3, 6)):
        one, other = sampler.rng.sample(NOTED_WORDS, 2)
        told.append(f"{sampler.rng.choice(subjects)} shows {sampler.rng.choice(objects)} with {one} or {other} .")
    return " ".join(told)


_DOCUMENTS: dict[str, Callable[[SceneSampler], str]] = {
    "binding": binding,
    "scene": _scene,
    "facts": _facts,
    "sums": _sums,
    "copy": _copy,
    "notes": _notes,
}


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Writes the text part into an existing folder.

    Returns:
        The number of documents of each kind, and of words.
    """
    rng = streams.choices(config.seed, "text")
    # Texts show no pixels; the sampler serves for words that respect the held-out pairs.
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
