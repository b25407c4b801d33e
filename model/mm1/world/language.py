"""All words and sentence forms of the toy world, in one place.

The world writes lower case with a space around every sign, so that each word is one token of a small byte-level BPE
wherever it stands. The same forms serve all parts: a question that an interleaved page asks reads like one of the
benchmarks.

Two templates tell an evaluation how to put questions to a base model that has read this world (MM1's own prompts play
the same role, paper appendix C): :data:`QUESTION_TEMPLATE` and :data:`CAPTION_TEMPLATE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from mm1.world.scene import Object, Scene

QUESTION_TEMPLATE = "{question} {answer} ."
"""After an image: a question and its answer ("what colour is the ring ? red ."). For a novel word the question is empty."""

CAPTION_TEMPLATE = "a photo of {caption} ."
"""After an image: the rich caption form, the one the reference captions of the benchmarks are written in."""

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SIZES = ("small", "big")
PLACES = ("left", "right", "bottom")
TAGS = ("l", "t", "x", "o", "h", "v")
COUNTS = ("zero", "one", "two", "three")

NONCE_WORDS = (
    *("dax", "wug", "blick", "zup", "tove", "fep", "kiv", "mip", "nol", "rud", "gax", "yib", "vok", "pim", "lorp"),
    *("snib", "keff", "jop", "quib", "dof", "gub", "hesk", "jarn", "kel", "mog", "nup", "ras", "sef", "vash", "wex"),
    *("yot", "zib", "fosk", "bim", "tud", "lon", "hig", "pab", "cag", "meb"),
)
"""Invented words; none is a word of this world's English. A document gives them a meaning of its own."""

ANIMALS = ("cow", "dog", "cat", "fox", "owl", "bee", "hen", "pig", "ant", "bat", "frog", "bear")
HOMES = ("barn", "house", "den", "tree", "hive", "farm", "hill", "pond")
FOODS = ("grass", "meat", "fish", "fruit", "corn", "bugs")
LIVES_IN = dict(zip(ANIMALS, (0, 1, 1, 2, 3, 4, 5, 5, 6, 3, 7, 2), strict=True))
"""Index of each animal's home: facts of the world, the same for every seed."""
EATS = dict(zip(ANIMALS, (0, 1, 2, 1, 5, 3, 4, 4, 3, 5, 5, 2), strict=True))
"""Index of each animal's food."""

ALT_PREFIXES = ("image of", "picture of", "my new", "best", "free")
JUNK = ("free hd wallpaper", "click here for more", "best price online", "new image free", "my best picture", "download here")
"""Alt texts that say nothing about their image, as on the real web."""

QUESTION_KINDS = ("colour", "shape", "size", "tag", "where", "count")
VAGUE_KINDS = ("colour", "shape", "size")
"""What the question "what is it ?" may mean. Only the other questions of its page tell which."""

VAGUE_QUESTION = "what is it ?"
NOVEL_QUESTION = ""
"""Nothing is asked where a page teaches names: an image is followed by its name, as in the text part a word is by its."""
LINK = "this is"
"""What some pages and texts say before a name."""
COMPARE_QUESTION = "which has more ?"


def words_of(thing: Object) -> tuple[str, str, str]:
    """Size, colour and shape of an object as words."""
    return SIZES[thing.size], COLOURS[thing.colour], SHAPES[thing.shape]


def phrase(thing: Object) -> str:
    """An object in full: "big red circle"."""
    return " ".join(words_of(thing))


def join(items: Sequence[str]) -> str:
    """A list in words: "x", "x and y", "x , y and z"."""
    return items[0] if len(items) == 1 else " , ".join(items[:-1]) + " and " + items[-1]


def caption(scene: Scene) -> str:
    """The full caption of a scene, objects in the order of their places."""
    return join([f"a {phrase(thing)}" for thing in scene.objects])


def rich_caption(scene: Scene) -> str:
    """The synthetic caption: the full caption, then the tag in a sentence of its own."""
    return f"{CAPTION_TEMPLATE.format(caption=caption(scene))} tag {TAGS[scene.tag]} ."


def partial_phrase(thing: Object, rng: Random) -> str:
    """An object named by one or two of its attributes, size before colour before shape."""
    kept = sorted(rng.sample(range(3), rng.choice((1, 2))))
    return " ".join(words_of(thing)[index] for index in kept)


def alt_text(scene: Scene, rng: Random, junk: float = 0.12) -> str:
    """A noisy alt text: one or two objects, some attributes, perhaps a prefix and the tag, or junk."""
    if rng.random() < junk:
        return rng.choice(JUNK) + " ."
    named = rng.sample(scene.objects, min(len(scene.objects), rng.choice((1, 2))))
    text = " and ".join(partial_phrase(thing, rng) for thing in named)
    if rng.random() < 0.3:
        text = f"{rng.choice(ALT_PREFIXES)} {text}"
    if rng.random() < 0.25:
        text = f"{text} tag {TAGS[scene.tag]}"
    return text + " ."


def question(kind: str, scene: Scene, thing: Object) -> tuple[str, str]:
    """A question of one kind about an object of a scene (or about the scene), and its answer.

    A question about the shape names the object by its place, which no other object shares.
    """
    shape = SHAPES[thing.shape]
    forms = {
        "colour": (f"what colour is the {shape} ?", COLOURS[thing.colour]),
        "shape": (f"what shape is at the {PLACES[thing.place]} ?", shape),
        "size": (f"what size is the {shape} ?", SIZES[thing.size]),
        "tag": ("what tag is it ?", TAGS[scene.tag]),
        "where": (f"where is the {shape} ?", PLACES[thing.place]),
        "count": ("how many objects are there ?", COUNTS[len(scene.objects)]),
    }
    return forms[kind]


def vague_answer(kind: str, thing: Object) -> str:
    """The answer to the vague question when the page means ``kind``."""
    return words_of(thing)[("size", "colour", "shape").index(kind)]


def ask(asked: str, answer: str) -> str:
    """A question and its answer as a page prints them."""
    return QUESTION_TEMPLATE.format(question=asked, answer=answer)


def num_words(text: str) -> int:
    """Words of a text, which are also its tokens."""
    return text.count(" ") + 1


def home_of(animal: str) -> str:
    """Where an animal lives."""
    return HOMES[LIVES_IN[animal]]


def food_of(animal: str) -> str:
    """What an animal eats."""
    return FOODS[EATS[animal]]
