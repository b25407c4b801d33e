"""Pages of text as images: lines of words, forms, tables and bar charts, with questions about them.

A page has 64 x 64 bits (:mod:`mm1.world.font`) and is rendered at the world's image size, but at 64 pixels or more, where a
letter has 3 x 5 pixels. At 32 pixels its bits are half a pixel wide: a reader who knows the font, the position and the grey of
the paper reads every letter at 64 pixels and loses many at 32. Known words, however, can be told by their shape at 32 pixels,
too; only marks (:mod:`mm1.world.marks`) need the resolution for certain. Words are invented words, animals, foods and other
words of the world; shapes are never named, so that no page names a held-out pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mm1.world import font, language
from mm1.world.render import encode
from mm1.world.scene import Split, split_of

PAGE_KINDS = {"lines": 0.4, "form": 0.3, "table": 0.2, "chart": 0.1}
"""Kinds of pages -> share."""
FIELDS = {
    "name": language.NONCE_WORDS,
    "animal": language.ANIMALS,
    "home": language.HOMES,
    "food": language.FOODS,
    "colour": language.COLOURS,
    "size": language.SIZES,
}
"""Fields of forms -> their values."""
WORDS = (*language.NONCE_WORDS, *language.ANIMALS, *language.HOMES, *language.FOODS)
MAX_BAR = 5
"""Largest value of a bar."""
_BAR_BITS, _BAR_PITCH, _BAR_TOP = 7, 20, 6
PAPER, CONTRAST, NOISE = (0.10, 0.25), (0.55, 0.75), 0.08
"""Ranges of the brightness of the paper and of the difference of the letters from it, as on a screen; noise of a pixel."""
ORIGIN = 1
"""Upper row and left column of the text, in bits. Lines are thus rows of patches of 8 pixels: a tower of the laptop family
learns the first word within 300 steps, while it does not within 600 if pages are white and the position varies by 2 bits."""


class Question(NamedTuple):
    """A question about a page."""

    text: str
    answer: str


class TextPage(NamedTuple):
    """A page: what it says, in words, and what is drawn."""

    kind: str
    lines: tuple[str, ...]
    """Lines as drawn; those of tables have their columns at fixed positions."""
    bars: tuple[int, ...]
    """Values of the bars above the line of their labels, in charts."""
    questions: tuple[Question, ...]

    @property
    def text(self) -> str:
        """Return the page's text: its lines, separated by commas; a chart is read as label and value of each bar."""
        if self.bars:
            return " , ".join(f"{label} {value}" for label, value in zip(self.lines[0].split(), self.bars, strict=True))
        return " , ".join(" ".join(line.split()) for line in self.lines)


def _lines(rng: Random) -> TextPage:
    lines = tuple(" ".join(rng.sample(WORDS, rng.choice((1, 2)))) for _ in range(rng.randint(2, 4)))
    questions = tuple(Question(f"what is on line {number} ?", line) for number, line in enumerate(lines, 1))
    return TextPage("lines", lines, (), questions)


def _form(rng: Random) -> TextPage:
    values = {name: rng.choice(FIELDS[name]) for name in rng.sample(list(FIELDS), rng.randint(2, 4))}
    lines = tuple(f"{name} : {value}" for name, value in values.items())
    return TextPage("form", lines, (), tuple(Question(f"what is the {name} ?", value) for name, value in values.items()))


def _table(rng: Random) -> TextPage:
    rows = {animal: rng.randrange(19) for animal in rng.sample(language.ANIMALS, rng.randint(2, 4))}
    lines = tuple(f"{animal:<8}{number}" for animal, number in rows.items())
    return TextPage("table", lines, (), tuple(Question(f"how many {animal} ?", str(number)) for animal, number in rows.items()))


def _chart(rng: Random) -> TextPage:
    short = [animal for animal in language.ANIMALS if len(animal) == font.LETTER_WIDTH]
    labels = rng.sample(short, rng.choice((2, 3)))
    values = tuple(rng.sample(range(1, MAX_BAR + 1), len(labels)))
    questions = [Question(f"how many {label} ?", str(value)) for label, value in zip(labels, values, strict=True)]
    questions.append(Question("which has most ?", labels[values.index(max(values))]))
    return TextPage("chart", ("  ".join(labels),), values, tuple(questions))


_DRAW: dict[str, Callable[[Random], TextPage]] = {"lines": _lines, "form": _form, "table": _table, "chart": _chart}


def draw_page(rng: Random, split: Split, kind: str | None = None) -> TextPage:
    """Draw a page of one split; a page's text is in exactly one split.

    Args:
        rng: random stream to draw from.
        split: split of the page.
        kind: one of :data:`PAGE_KINDS`; default: drawn by their shares.
    """
    kind = kind or rng.choices(list(PAGE_KINDS), list(PAGE_KINDS.values()))[0]
    while True:
        page = _DRAW[kind](rng)
        if split_of(page.text.encode()) is split:
            return page


def bits_of(page: TextPage, row: int, column: int) -> font.Bits:
    """Draw the bits of a page from an upper row and a left column on, (64, 64)."""
    if not page.bars:
        return font.page_of(page.lines, row, column)
    bottom = row + _BAR_TOP + MAX_BAR * _BAR_BITS
    bits = font.page_of((), row, column)
    for index, value in enumerate(page.bars):
        left = column + index * _BAR_PITCH
        bits[bottom - value * _BAR_BITS : bottom, left : left + font.LETTER_WIDTH * font.ADVANCE - 1] = True
    font.draw_text(bits, page.lines[0], bottom + 2, column)
    return bits


def page_side(image_size_px: int) -> int:
    """Return the height and width of pages, in pixels."""
    return max(font.PAGE_BITS, image_size_px)


def render_page(page: TextPage, side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Render a page with random brightness of paper and letters.

    Returns:
        The image, (side, side, 3), RGB, 0 to 255.
    """
    bits = Image.fromarray(bits_of(page, ORIGIN, ORIGIN).astype(np.uint8) * 255).resize(
        (side_px, side_px), Image.Resampling.BOX
    )
    ink = np.asarray(bits, dtype=np.float32)[..., None] / 255
    paper, contrast = (np.float32(rng.uniform(*interval)) for interval in (PAPER, CONTRAST))
    noise = rng.standard_normal((side_px, side_px, 3), dtype=np.float32) * np.float32(NOISE)
    image: NDArray[np.uint8] = np.rint(np.clip(paper + contrast * ink + noise, 0, 1) * 255).astype(np.uint8)
    return image


def encoded_pages(pages: Iterable[TextPage], image_size_px: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Render and encode pages, in order."""
    side = page_side(image_size_px)
    return (encode(render_page(page, side, rng)) for page in pages)
