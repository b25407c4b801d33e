"""A bitmap font of 3 x 5 bits for small letters, digits and punctuation, and its painting on a page.

The font is part of the code, so that pages have the same pixels on every machine. A letter with its gap is 4 bits wide and a
line with its gap is 8 bits high: a page of 64 x 64 bits has 8 lines of 16 characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]

LETTER_WIDTH, LETTER_HEIGHT = 3, 5
ADVANCE, LINE_PITCH = 4, 8
"""Distance between the beginnings of two letters, and of two lines, in bits."""
PAGE_BITS = 64
"""Side of a page, in bits."""
COLUMNS, LINES = PAGE_BITS // ADVANCE, PAGE_BITS // LINE_PITCH

_ROWS = {
    "a": ".## #.# ### #.# #.#",
    "b": "##. #.# ##. #.# ##.",
    "c": ".## #.. #.. #.. .##",
    "d": "##. #.# #.# #.# ##.",
    "e": "### #.. ##. #.. ###",
    "f": "### #.. ##. #.. #..",
    "g": ".## #.. #.# #.# .##",
    "h": "#.. #.. ### #.# #.#",
    "i": "### .#. .#. .#. ###",
    "j": "..# ..# ..# #.# .#.",
    "k": "#.# #.# ##. #.# #.#",
    "l": "#.. #.. #.. #.. ###",
    "m": "#.# ### #.# #.# #.#",
    "n": "##. #.# #.# #.# #.#",
    "o": "### #.# #.# #.# ###",
    "p": "##. #.# ##. #.. #..",
    "q": ".#. #.# #.# .## ..#",
    "r": "##. #.# ##. ##. #.#",
    "s": ".## #.. .#. ..# ##.",
    "t": "### .#. .#. .#. .#.",
    "u": "#.# #.# #.# #.# .##",
    "v": "#.# #.# #.# .#. .#.",
    "w": "#.# #.# ### ### #.#",
    "x": "#.# #.# .#. #.# #.#",
    "y": "#.# #.# .#. .#. .#.",
    "z": "### ..# .#. #.. ###",
    "0": ".#. #.# #.# #.# .#.",
    "1": ".#. ##. .#. .#. .#.",
    "2": "##. ..# .#. #.. ###",
    "3": "##. ..# .## ..# ##.",
    "4": "#.. #.# ### ..# ..#",
    "5": "### #.. ##. ..# ##.",
    "6": ".#. #.. ### #.# ###",
    "7": "### ..# ..# .#. .#.",
    "8": "### #.# .#. #.# ###",
    "9": "### #.# ### ..# .#.",
    ":": "... .#. ... .#. ...",
    ".": "... ... ... ... .#.",
    ",": "... ... ... .#. #..",
    " ": "... ... ... ... ...",
}
GLYPHS: dict[str, Bits] = {
    character: np.array([[bit == "#" for bit in row] for row in rows.split(" ")]) for character, rows in _ROWS.items()
}
"""Bitmaps, 5 rows by 3 columns."""


def draw_text(page: Bits, text: str, row: int, column: int) -> None:
    """Draw a line of text on a page.

    Args:
        page: the page, (rows, columns) in bits, changed in place.
        text: characters of the font.
        row: upper row of the letters.
        column: left column of the first letter.

    Raises:
        ValueError: the text has another character, or does not fit on the page.
    """
    if unknown := set(text) - set(GLYPHS):
        raise ValueError(f"the font has no character {min(unknown)!r}")
    if column + len(text) * ADVANCE - 1 > page.shape[1] or row + LETTER_HEIGHT > page.shape[0]:
        raise ValueError(f"{text!r} does not fit at row {row}, column {column} of a page of {page.shape} bits")
    for index, character in enumerate(text):
        left = column + index * ADVANCE
        page[row : row + LETTER_HEIGHT, left : left + LETTER_WIDTH] |= GLYPHS[character]


def page_of(lines: Sequence[str], row: int = 0, column: int = 0) -> Bits:
    """Draw lines of text on an empty page, from an upper row and a left column on.

    Returns:
        The page, (64, 64).
    """
    page = np.zeros((PAGE_BITS, PAGE_BITS), dtype=np.bool_)
    for index, line in enumerate(lines):
        draw_text(page, line, row + index * LINE_PITCH, column)
    return page
