"""Scenes: the content of images, independent of pixels and words.

A scene is a 2 x 2 grid. Up to three objects are in the cells left (top left), right (top right) and bottom (bottom left);
the fourth cell always contains a small letter, the tag. All values are indices into the word lists of
:mod:`mm1.world.language`.

Two guarantees hold by construction:

- **Splits.** A checksum of the whole scene (objects, tag, background) assigns it to exactly one :class:`Split`.
  Training parts only draw training scenes, so no benchmark scene is ever trained on, and no demonstration is
  also an item.
- **Held-out pairs.** :func:`held_out_pairs` selects (shape, colour) pairs that do not occur in any training part, neither
  as pixels nor as words. They are only drawn on explicit request.
"""

from __future__ import annotations

import zlib
from enum import Enum
from random import Random
from typing import NamedTuple

from mm1.world import streams
from mm1.world.config import WorldConfig

NUM_SHAPES, NUM_COLOURS, NUM_SIZES, NUM_PLACES, NUM_TAGS = 5, 6, 2, 3, 6
NUM_BACKGROUNDS = 64
"""Number of backgrounds: dark tints with four levels for each of red, green and blue."""

Pair = tuple[int, int]
"""Shape and colour."""


class Object(NamedTuple):
    """One object of a scene, as indices."""

    shape: int
    colour: int
    size: int
    place: int


class Scene(NamedTuple):
    """One scene: its objects in the order of their places, the tag's letter and the background."""

    objects: tuple[Object, ...]
    tag: int
    background: int


class Split(Enum):
    """Purpose of a scene. The values are classes (of 16) of the scene's checksum."""

    TRAIN = frozenset(range(4, 16))
    DEV = frozenset({0})
    DEV_DEMO = frozenset({1})
    TEST = frozenset({2})
    TEST_DEMO = frozenset({3})


def flat_values(scene: Scene) -> bytes:
    """Return all values of a scene, for checksums."""
    flat = [value for thing in scene.objects for value in thing]
    return bytes([*flat, scene.tag, scene.background])


def split_class(scene: Scene) -> int:
    """Compute the class of a scene, 0 to 15, which determines its :class:`Split`."""
    return _class_of(flat_values(scene))


def _class_of(content: bytes) -> int:
    return zlib.crc32(content) & 15


def split_of(content: bytes) -> Split:
    """Return the split of any content that is assigned like scenes, such as the text of a page."""
    return next(split for split in Split if _class_of(content) in split.value)


def held_out_pairs(config: WorldConfig) -> frozenset[Pair]:
    """Select the (shape, colour) pairs excluded from all training parts; they have no shape and no colour in common."""
    rng = streams.choices(config.seed, "held-out pairs")
    shapes = rng.sample(range(NUM_SHAPES), config.held_out_pairs)
    colours = rng.sample(range(NUM_COLOURS), config.held_out_pairs)
    return frozenset(zip(shapes, colours, strict=True))


class SceneSampler:
    """Draws scenes of one split.

    Args:
        rng: Random stream to draw from.
        split: Split of the scenes.
        held_out: Pairs that are only drawn by methods for held-out pairs.
    """

    def __init__(self, rng: Random, split: Split, held_out: frozenset[Pair]) -> None:
        self.rng = rng
        self.split = split
        every = [(shape, colour) for shape in range(NUM_SHAPES) for colour in range(NUM_COLOURS)]
        self.pairs = [pair for pair in every if pair not in held_out]
        self.held_out = sorted(held_out)
        self.colours_of = [[colour for shape, colour in self.pairs if shape == chosen] for chosen in range(NUM_SHAPES)]

    def finish(self, objects: list[Object]) -> Scene:
        """Add tag and background such that the scene is in this sampler's split."""
        ordered = tuple(sorted(objects, key=lambda thing: thing.place))
        while True:
            scene = Scene(ordered, self.rng.randrange(NUM_TAGS), self.rng.randrange(NUM_BACKGROUNDS))
            if split_class(scene) in self.split.value:
                return scene

    def single(
        self, shape: int | None = None, colour: int | None = None, size: int | None = None, place: int | None = None
    ) -> Scene:
        """Draw one object; unspecified attributes are drawn uniformly."""
        rng = self.rng
        if shape is None or colour is None:
            fits = self.pairs
            if shape is not None or colour is not None:
                fits = [pair for pair in fits if shape in (None, pair[0]) and colour in (None, pair[1])]
            shape, colour = rng.choice(fits)
        size = rng.randrange(NUM_SIZES) if size is None else size
        place = rng.randrange(NUM_PLACES) if place is None else place
        return self.finish([Object(shape, colour, size, place)])

    def several(self, first: Pair | None = None, count: int | None = None) -> Scene:
        """Draw two or three objects of different shapes; ``first`` fixes one of them."""
        rng = self.rng
        count = count or rng.choice((2, 3))
        shapes = rng.sample(range(NUM_SHAPES), count)
        if first is not None:
            shapes = [first[0], *[shape for shape in shapes if shape != first[0]][: count - 1]]
        pairs = [first] if first is not None else []
        pairs += [(shape, rng.choice(self.colours_of[shape])) for shape in shapes[len(pairs) :]]
        places = rng.sample(range(NUM_PLACES), count)
        objects = [
            Object(shape, colour, rng.randrange(NUM_SIZES), place) for (shape, colour), place in zip(pairs, places, strict=True)
        ]
        return self.finish(objects)

    def any(self) -> Scene:
        """Draw one object or several, with equal probability."""
        return self.single() if self.rng.random() < 0.5 else self.several()

    def held_out_scene(self) -> tuple[Scene, Pair]:
        """Draw a scene with exactly one held-out pair, and that pair."""
        pair = self.rng.choice(self.held_out)
        scene = self.single(*pair) if self.rng.random() < 0.5 else self.several(first=pair)
        return scene, pair
