"""Widths of text, so that labels in diagrams end inside their boxes.

Measured in DejaVu Sans, which Matplotlib brings and which is wider than the usual fonts of browsers.
"""

from __future__ import annotations

from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

_PIXELS_PER_UNIT = 64.0


@lru_cache(maxsize=2)
def _font(bold: bool) -> FT2Font:
    return FT2Font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))


def text_width(text: str, size_px: float, *, bold: bool = False) -> float:
    """Measure a line of text in pixels."""
    font = _font(bold)
    font.set_size(size_px, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / _PIXELS_PER_UNIT


def fit(text: str, width_px: float, size_px: float, bold: bool = False) -> str:
    """Shorten a text with an ellipsis to the longest beginning that fits a width."""
    if text_width(text, size_px, bold=bold) <= width_px:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle].rstrip() + "…", size_px, bold=bold) <= width_px:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"
