"""Interleaved pages: sequences of scenes and texts that reward in-context learning.

Six kinds, with shares that were chosen on the split dev (:data:`PAGE_KINDS`):

- ``novel``: each image is labelled with an invented word whose meaning (a shape, a colour, a pair, an exact object)
  is specific to the page. 2 to 6 concepts; 40 % of the pages also describe the object after naming it; 60 % are
  bursty (an image repeats the previous concept).
- ``captions``: every image has its full caption, in the form of the benchmark.
- ``style``: all images are captioned in the same short form, which can only be inferred from the page.
- ``quiz``: one kind of question per page, sometimes the vague "what is it ?".
- ``steps``: one kind of question about two images that takes two steps; half of the pages show the steps.
- ``story``: images with alt texts, many of them unrelated.

A page ends before it would exceed ``tokens_per_document``.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from mm1.world import language
from mm1.world.config import WorldConfig
from mm1.world.scene import NUM_COLOURS, NUM_PLACES, NUM_SHAPES, NUM_SIZES, Scene, SceneSampler
from mm1.world.steps import STEP_KINDS, illustrate, two_step

Entry = tuple[tuple[Scene, ...], str]
"""Images and the text after them."""

PAGE_KINDS = {"novel": 0.54, "captions": 0.10, "style": 0.06, "quiz": 0.17, "steps": 0.11, "story": 0.02}
CONCEPT_KINDS = ("shape", "colour", "pair", "pair", "exact", "exact")
NUM_CONCEPTS = (2, 2, 2, 3, 3, 4, 5, 6)
"""Number of concepts of a page, drawn from these: mostly few, as in the text part, so that their names recur soon."""
NAME_FORMS = {"": 0.8, f"{language.LINK} ": 0.1, "a ": 0.1}
DESCRIBE_SHARE, BURSTY_SHARE, VAGUE_SHARE_OF_QUIZZES, STEPS_SHARE = 0.4, 0.6, 0.45, 0.5

Concept = dict[str, int]
"""The attributes fixed by a concept, as keyword arguments of :meth:`SceneSampler.single`."""


def concepts(kind: str, count: int, sampler: SceneSampler) -> list[Concept]:
    """Draw distinct concepts of one kind, without held-out pairs; no more than the kind has."""
    rng = sampler.rng
    if kind == "shape":
        return [{"shape": shape} for shape in rng.sample(range(NUM_SHAPES), min(count, NUM_SHAPES))]
    if kind == "colour":
        return [{"colour": colour} for colour in rng.sample(range(NUM_COLOURS), min(count, NUM_COLOURS))]
    pairs = [{"shape": shape, "colour": colour} for shape, colour in rng.sample(sampler.pairs, count)]
    if kind == "exact":
        return [{**pair, "size": rng.randrange(NUM_SIZES), "place": rng.randrange(NUM_PLACES)} for pair in pairs]
    return pairs


def _novel(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    named = concepts(rng.choice(CONCEPT_KINDS), rng.choice(NUM_CONCEPTS), sampler)
    names = rng.sample(language.NONCE_WORDS, len(named))
    form = rng.choices(list(NAME_FORMS), list(NAME_FORMS.values()))[0]
    describe, bursty = rng.random() < DESCRIBE_SHARE, rng.random() < BURSTY_SHARE
    index = rng.randrange(len(named))
    while True:
        scene = sampler.single(**named[index])
        text = f"{form}{names[index]} ."
        yield (scene,), f"{text} {language.phrase(scene.objects[0])} ." if describe else text
        if not (bursty and rng.random() < 0.5):
            index = rng.randrange(len(named))


def _captions(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    while True:
        scene = sampler.any()
        yield (scene,), language.CAPTION_TEMPLATE.format(caption=language.caption(scene))


def _style(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    say = language.STYLES[rng.choice(list(language.STYLES))]
    while True:
        scene = sampler.single()
        yield (scene,), f"{say(scene.objects[0])} ."


def _quiz(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    if rng.random() < VAGUE_SHARE_OF_QUIZZES:
        meant = rng.choice(language.VAGUE_KINDS)
        while True:
            scene = sampler.single()
            yield (scene,), language.ask(language.VAGUE_QUESTION, language.vague_answer(meant, scene.objects[0]))
    kind = rng.choice(language.QUESTION_KINDS)
    while True:
        scene = sampler.any()
        yield (scene,), language.ask(*language.question(kind, scene, rng.choice(scene.objects)))


def _steps(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    kind, with_steps = rng.choice(STEP_KINDS), rng.random() < STEPS_SHARE
    while True:
        drawn = two_step(kind, rng)
        yield illustrate(kind, drawn, sampler), language.ask(drawn.question, drawn.reply(with_steps=with_steps))


def _story(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    while True:
        scene = sampler.any()
        yield (scene,), language.alt_text(scene, rng, junk=0.4)


_PAGES = {"novel": _novel, "captions": _captions, "style": _style, "quiz": _quiz, "steps": _steps, "story": _story}


def page(sampler: SceneSampler, config: WorldConfig) -> tuple[str, list[Entry]]:
    """Draw one page of a random kind (:data:`PAGE_KINDS`): the kind and its entries, within ``tokens_per_document``."""
    rng = sampler.rng
    kind = rng.choices(list(PAGE_KINDS), list(PAGE_KINDS.values()))[0]
    entries: list[Entry] = []
    room = config.tokens_per_document - 1  # the final EOS
    for images, text in _PAGES[kind](sampler, rng):
        room -= len(images) * config.tokens_per_image + language.num_words(text)
        if room < 0 and len(entries) > 1:
            break
        entries.append((images, text))
    return kind, entries
