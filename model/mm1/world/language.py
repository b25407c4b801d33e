"""All words and sentence forms of the toy world.

The world uses lower case with spaces around punctuation, so each word is a single token of a small byte-level BPE at any
position. All parts use the same forms: a question in an interleaved page reads like one in the benchmarks.

Two templates define how an evaluation prompts a base model trained on this world (like MM1's own prompts, paper
appendix C): :data:`QUESTION_TEMPLATE` and :data:`CAPTION_TEMPLATE`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from mm1.world.scene import Object, Scene

QUESTION_TEMPLATE = "{question} {answer} ."
"""After an image: a question and its answer ("what colour is the ring ? red ."). For a novel word, the question is empty."""

CAPTION_TEMPLATE = "a photo of {caption} ."
"""After an image: the rich caption form, also used by the reference captions of the benchmarks."""

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SIZES = ("small", "big")
PLACES = ("left", "right", "bottom")
TAGS = ("l", "t", "x", "o", "h", "v")
COUNTS = ("zero", "one", "two", "three", "four", "five", "six")

NONCE_WORDS = (
    *("dax", "wug", "blick", "zup", "tove", "fep", "kiv", "mip", "nol", "rud", "gax", "yib", "vok", "pim", "lorp"),
    *("snib", "keff", "jop", "quib", "dof", "gub", "hesk", "jarn", "kel", "mog", "nup", "ras", "sef", "vash", "wex"),
    *("yot", "zib", "fosk", "bim", "tud", "lon", "hig", "pab", "cag", "meb"),
)
"""Invented words that are not in this world's English. Each document gives them its own meaning."""

ANIMALS = ("cow", "dog", "cat", "fox", "owl", "bee", "hen", "pig", "ant", "bat", "frog", "bear")
HOMES = ("barn", "house", "den", "tree", "hive", "farm", "hill", "pond")
FOODS = ("grass", "meat", "fish", "fruit", "corn", "bugs")
LIVES_IN = dict(zip(ANIMALS, (0, 1, 1, 2, 3, 4, 5, 5, 6, 3, 7, 2), strict=True))
"""Index of each animal's home: facts of the world, independent of the seed."""
EATS = dict(zip(ANIMALS, (0, 1, 2, 1, 5, 3, 4, 4, 3, 5, 5, 2), strict=True))
"""Index of each animal's food."""
ANIMALS_BY_SIZE = ("ant", "bee", "frog", "bat", "hen", "owl", "cat", "fox", "dog", "pig", "cow", "bear")
"""All animals, the smallest first."""

ALT_PREFIXES = ("image of", "picture of", "my new", "best", "free")
JUNK = ("free hd wallpaper", "click here for more", "best price online", "new image free", "my best picture", "download here")
"""Alt texts unrelated to their images, as on the real web."""

QUESTION_KINDS = ("colour", "shape", "size", "tag", "where", "count")
VAGUE_KINDS = ("colour", "shape", "size")
"""Possible meanings of the question "what is it ?". Only the other questions on the page disambiguate it."""

VAGUE_QUESTION = "what is it ?"
NOVEL_QUESTION = ""
"""Pages that teach names ask no question: an image is followed by its name, like a word in the text part."""
LINK = "this is"
"""Prefix of names on some pages and in some texts."""


def words_of(thing: Object) -> tuple[str, str, str]:
    """Return the size, colour and shape of an object, as words."""
    return SIZES[thing.size], COLOURS[thing.colour], SHAPES[thing.shape]


def phrase(thing: Object) -> str:
    """Return the full description of an object: "big red circle"."""
    return " ".join(words_of(thing))


def join(items: Sequence[str]) -> str:
    """Join items to a list in words: "x", "x and y", "x , y and z"."""
    return items[0] if len(items) == 1 else " , ".join(items[:-1]) + " and " + items[-1]


def caption(scene: Scene) -> str:
    """Return the full caption of a scene, with objects in the order of their places."""
    return join([f"a {phrase(thing)}" for thing in scene.objects])


def rich_caption(scene: Scene) -> str:
    """Return the synthetic caption: the full caption, followed by a sentence about the tag."""
    return f"{CAPTION_TEMPLATE.format(caption=caption(scene))} tag {TAGS[scene.tag]} ."


def partial_phrase(thing: Object, rng: Random) -> str:
    """Describe an object by one or two of its attributes, in the order size, colour, shape."""
    kept = sorted(rng.sample(range(3), rng.choice((1, 2))))
    return " ".join(words_of(thing)[index] for index in kept)


def alt_text(scene: Scene, rng: Random, junk: float = 0.12) -> str:
    """Draw a noisy alt text: one or two objects with some attributes, possibly a prefix and the tag; or junk."""
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
    """Ask a question of one kind about an object of a scene (or about the scene); returns question and answer.

    A question about the shape refers to the object by its place, which is unique.
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
    """Return the answer to the vague question if the page means ``kind``."""
    return words_of(thing)[("size", "colour", "shape").index(kind)]


def ask(question: str, answer: str) -> str:
    """Format a question and its answer as on a page."""
    return QUESTION_TEMPLATE.format(question=question, answer=answer)


STYLES: dict[str, Callable[[Object], str]] = {
    "colour": lambda thing: words_of(thing)[1],
    "shape": lambda thing: words_of(thing)[2],
    "size shape": lambda thing: " ".join(words_of(thing)[::2]),
    "colour shape": lambda thing: " ".join(words_of(thing)[1:]),
    "size colour": lambda thing: " ".join(words_of(thing)[:2]),
    "full": lambda thing: f"a {phrase(thing)}",
}
"""Forms of short captions by name; a page has one, which only its examples show."""


def num_words(text: str) -> int:
    """Return the number of words in a text, which equals its number of tokens."""
    return text.count(" ") + 1


def home_of(animal: str) -> str:
    """Return the home of an animal."""
    return HOMES[LIVES_IN[animal]]


def food_of(animal: str) -> str:
    """Return the food of an animal."""
    return FOODS[EATS[animal]]
