"""Coordinates in text: boxes as four integers and points as two, 0 to 999, relative to the image's width and height.

``12 40 180 310`` is the box from (12, 40) to (180, 310) thousandths of width and height: left, top, right, bottom. MM1.5
(arXiv 2409.20566) writes coordinates as text in questions and answers, in the style of Ferret; the range 0 to 999 is that of
Ferret-like work. Plain integers with spaces need no vocabulary entries of their own: a byte-level tokenizer splits them into
digits or short groups of digits. This is the only place that writes and reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

BINS = 1000
"""Number of values of a coordinate."""
_NUMBER = r"([-+]?\d++(?:\.\d++)?)(\s?%)?"
_SEPARATOR = r"[\s,;|()\[\]{}<>]"
_LABEL = r"(?:[\"']?(?:[xy]_?(?:min|max|[0-2])?|left|top|right|bottom)[\"']?\s?[:=]|to\b|and\b|-(?=\s*[(\[]))"
_GAP = rf"(?:{_SEPARATOR}++(?:{_LABEL}{_SEPARATOR}*+)?|(?<=%){_SEPARATOR}*+)"
_BREAK = r"(?<![\w.+\-])"
_END = r"(?![\w\-]|\.\d)"


class Box(NamedTuple):
    """A rectangle, 0 to 999 relative to the image: left < right and top < bottom, or equal for a thin object."""

    left: int
    top: int
    right: int
    bottom: int

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @property
    def centre(self) -> Point:
        """Return the point in the middle, rounded down."""
        return Point((self.left + self.right) // 2, (self.top + self.bottom) // 2)


class Point(NamedTuple):
    """A position, 0 to 999 relative to the image."""

    x: int
    y: int

    def __str__(self) -> str:
        return " ".join(map(str, self))


def coordinate(position: float, length: float) -> int:
    """Convert a position on a side of an image to a coordinate; positions outside are moved to the border.

    Args:
        position: distance from the left or upper border.
        length: length of the side, in the same unit.

    Raises:
        ValueError: the side has no length, or the position is not a number.
    """
    if not length > 0:
        raise ValueError(f"expected an image with a positive width and height, got {length}")
    if math.isnan(position):
        raise ValueError("expected numbers for a box, got NaN")
    return int(min(max(position / length * BINS, 0), BINS - 1))


def box_of_corners(corners: Sequence[float], width: float = 1, height: float = 1) -> Box:
    """Convert left, top, right and bottom, in the unit of ``width`` and ``height`` (default: shares of them), to a box.

    Raises:
        ValueError: not four numbers, a corner is on the wrong side, or the image has no size.
    """
    if len(corners) != 4:
        raise ValueError(f"expected 4 numbers for a box, got {len(corners)}")
    left, top, right, bottom = corners
    if left > right or top > bottom:
        raise ValueError(f"expected left <= right and top <= bottom, got {left}, {top}, {right}, {bottom}")
    return Box(coordinate(left, width), coordinate(top, height), coordinate(right, width), coordinate(bottom, height))


def box_of_pixels(x_y_width_height: Sequence[float], width: float, height: float) -> Box:
    """Convert COCO's ``bbox`` (left, top, width and height in pixels) in an image of a size in pixels to a box.

    Raises:
        ValueError: not four numbers, a negative size, or the image has no size.
    """
    if len(x_y_width_height) != 4:
        raise ValueError(f"expected x, y, width and height, got {len(x_y_width_height)} numbers")
    x, y, box_width, box_height = x_y_width_height
    return box_of_corners((x, y, x + box_width, y + box_height), width, height)


def parse_box(text: str) -> Box | None:
    """Read the first box in a text, in this project's form or those of other models.

    | form | |
    |---|---|
    | ``12 40 180 310`` | ours, also with commas, in any brackets, as ``(12,40),(180,310)`` or in ``<box>`` |
    | ``(12, 40) to (180, 310)``, ``x1=12, y1=40, x2=180, y2=310`` | with words between, or labels |
    | ``[0.01, 0.04, 0.18, 0.31]`` | shares of width and height, as in LLaVA: all are 0 to 1, and one has a decimal point |
    | ``12%, 40%, 18%, 31%`` | per cent of width and height |

    Corners in the wrong order are exchanged, and numbers outside the image are moved to its border. Of more than four numbers
    in a row the first four count.

    Args:
        text: a model's answer.

    Returns:
        The box; None if the text has no four numbers in a row.
    """
    numbers = _numbers(text, 4)
    if numbers is None:
        return None
    x, y, other_x, other_y = numbers
    return Box(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y))


def parse_point(text: str) -> Point | None:
    """Read the first point in a text, in the forms of :func:`parse_box`, such as ``12 40``; the centre if the text has a box.

    Returns:
        The point; None if the text has no two numbers in a row.
    """
    if box := parse_box(text):
        return box.centre
    numbers = _numbers(text, 2)
    return Point(*numbers) if numbers else None


def _numbers(text: str, count: int) -> list[int] | None:
    match = re.search(_BREAK + _GAP.join([_NUMBER] * count) + _END, text.replace("\u2212", "-"), re.IGNORECASE)
    if match is None:
        return None
    numbers, percents = match.groups()[::2], match.groups()[1::2]
    values = [float(number) for number in numbers]
    if any(percents):
        return [coordinate(value, 100) for value in values]
    are_shares = any("." in number for number in numbers) and all(0 <= value <= 1 for value in values)
    return [coordinate(value, 1 if are_shares else BINS) for value in values]
