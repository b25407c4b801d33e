"""Interleaved pages: sequences of scenes and texts that reward in-context learning.

Four kinds, with the shares that worked best in experiments:

- ``novel`` (50 %): each image is labelled with an invented word whose meaning (a shape, a colour, a pair, an exact object)
  is specific to the page. 2 to 8 concepts; 40 % of the pages also describe the object after naming it; 60 % are
  bursty (an image repeats the previous concept).
- ``style`` (10 %): all images are captioned in the same form, which can only be inferred from the page.
- ``quiz`` (25 %): one kind of question per page, sometimes the vague "what is it ?".
- ``story`` (15 %): pairs of images to compare, or images with alt texts.

A page ends before it would exceed ``tokens_per_document``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from mm1.world import language
from mm1.world.config import WorldConfig
from mm1.world.scene import NUM_COLOURS, NUM_PLACES, NUM_SHAPES, NUM_SIZES, Object, Scene, SceneSampler

Entry = tuple[tuple[Scene, ...], str]
"""Images and the text after them."""

PAGE_KINDS = {"novel": 0.58, "style": 0.07, "quiz": 0.25, "story": 0.10}
CONCEPT_KINDS = ("shape", "colour", "pair", "pair", "exact", "exact")
NAME_FORMS = {"": 0.8, f"{language.LINK} ": 0.1, "a ": 0.1}
DESCRIBE_SHARE, BURSTY_SHARE, VAGUE_SHARE_OF_QUIZZES = 0.4, 0.6, 0.3

Concept = dict[str, int]
"""The attributes fixed by a concept, as keyword arguments of :meth:`SceneSampler.single`."""

_STYLES: tuple[Callable[[Object], str], ...] = (
    lambda thing: language.words_of(thing)[1],
    lambda thing: language.words_of(thing)[2],
    lambda thing: " ".join(language.words_of(thing)[::2]),
    lambda thing: " ".join(language.words_of(thing)[1:]),
    lambda thing: " ".join(language.words_of(thing)[:2]),
    lambda thing: f"a {language.phrase(thing)}",
)


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
    named = concepts(rng.choice(CONCEPT_KINDS), rng.randint(2, 8), sampler)
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


def _style(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    say = rng.choice(_STYLES)
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


def _compare(sampler: SceneSampler, rng: Random) -> Entry:
    kind = rng.choice(("more", "colour", "shape"))
    if kind == "more":
        first, second = rng.choice(((1, 2), (1, 3), (2, 3), (2, 1), (3, 1), (3, 2)))
        scenes = tuple(sampler.single() if count == 1 else sampler.several(count=count) for count in (first, second))
        return scenes, language.ask(language.COMPARE_QUESTION, "first" if first > second else "second")
    left = sampler.single()
    value: int = getattr(left.objects[0], kind)
    right = sampler.single(**{kind: value}) if rng.random() < 0.5 else sampler.single()
    equal = getattr(right.objects[0], kind) == value
    return (left, right), language.ask(f"same {kind} ?", "yes" if equal else "no")


def _story(sampler: SceneSampler, rng: Random) -> Iterator[Entry]:
    compares = rng.random() < 0.5
    while True:
        if compares:
            yield _compare(sampler, rng)
        else:
            scene = sampler.any()
            yield (scene,), language.alt_text(scene, rng, junk=0.4)


_PAGES = {"novel": _novel, "style": _style, "quiz": _quiz, "story": _story}


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
