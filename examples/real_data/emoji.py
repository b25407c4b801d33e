"""Emoji: the pictures of a font, with their names in several languages and their groups, from Unicode's locale data (CLDR).

The pages of names are a task that a model can only do in context: the language of a page shows in its other names.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont, features

LOCALES = ("en", "de", "fr", "es", "it", "nl")
SIDE_PX = 136
"""Side of the pictures: the width of the font's bitmaps, which are 128 high."""
STRIKE = 109
"""The only size of the font, in pixels per em."""
PER_PAGE = 8
CHOICES_OF_OTHERS = 3
"""Wrong names in a question."""
TOPIC_QUESTION = "what is it about ?"
_FOLDERS = ("annotations", "annotationsDerived")
_SKIN_TONES = range(0x1F3FB, 0x1F3FF + 1)
_SET_ITEM = re.compile(r"\{([^}]+)\}|(.)-(.)|(.)", re.DOTALL)


@dataclass(frozen=True)
class Emoji:
    """A picture of the font and what CLDR says about it."""

    characters: str
    names: dict[str, str]
    """Locale -> name."""
    group: str
    """Such as ``animals & nature``."""


def emoji(cldr: Path, font: Path) -> list[Emoji]:
    """Read all emoji without skin tones that have a group, a name in every locale, and one picture in the font.

    Args:
        cldr: folder ``common`` of CLDR.
        font: TrueType font with coloured bitmaps.
    """
    names = {locale: _names(cldr, locale) for locale in LOCALES}
    groups = _groups(cldr / "properties" / "labels.txt")
    kept = []
    for characters in names["en"]:
        group = groups.get(characters)
        has_tone = any(ord(character) in _SKIN_TONES for character in characters)
        named = all(characters in names[locale] for locale in LOCALES)
        if group and named and not has_tone and _is_one_picture(characters, font):
            kept.append(Emoji(characters, {locale: names[locale][characters] for locale in LOCALES}, group))
    return kept


def _names(cldr: Path, locale: str) -> dict[str, str]:
    names = {}
    for folder in _FOLDERS:
        for annotation in ET.parse(cldr / folder / f"{locale}.xml").iter("annotation"):
            if annotation.get("type") == "tts" and annotation.text:
                names[annotation.get("cp", "")] = annotation.text.lower()
    return names


def _groups(file: Path) -> dict[str, str]:
    """Read the label of each character from sets such as ``[a-cx{de}] ; label ; second label``."""
    groups = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        fields = [field.strip() for field in line.split(";")]
        if line.startswith("[") and len(fields) > 2:
            for characters in _set_of(fields[0][1:-1]):
                groups[characters.replace("\ufe0f", "")] = fields[1].lower()
    return groups


def _set_of(text: str) -> Iterator[str]:
    for match in _SET_ITEM.finditer(text):
        sequence, first, last, single = match.groups()
        if first:
            yield from (chr(code) for code in range(ord(first), ord(last) + 1))
        else:
            yield sequence or single


@cache
def _font(font: Path) -> ImageFont.FreeTypeFont:
    # Raqm joins sequences, such as an astronaut from a woman and a rocket.
    layout = ImageFont.Layout.RAQM if features.check("raqm") else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(font), STRIKE, layout_engine=layout)


def _is_one_picture(characters: str, font: Path) -> bool:
    face = _font(font)
    return 0 < face.getlength(characters) <= SIDE_PX * 1.01 and face.getmask(characters, mode="RGBA").getbbox() is not None


def picture(item: Emoji, font: Path) -> bytes:
    """Draw an emoji on white; returns a PNG."""
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    ImageDraw.Draw(image).text((SIDE_PX // 2, SIDE_PX // 2), item.characters, "black", _font(font), "mm", embedded_color=True)
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


@dataclass(frozen=True)
class NamePage:
    """Pictures with their names in one language."""

    locale: str
    items: tuple[Emoji, ...]


def name_pages(items: list[Emoji], count: int, rng: Random) -> Iterator[NamePage]:
    """Draw pages of different pictures, each in a random language."""
    for _ in range(count):
        yield NamePage(rng.choice(LOCALES), tuple(rng.sample(items, PER_PAGE)))


def names_in_one_language(item: Emoji, locale: str, others: list[Emoji], rng: Random) -> list[str]:
    """Return the right name and those of pictures of other groups, shuffled."""
    elsewhere = [other for other in others if other.group != item.group and other.names[locale] != item.names[locale]]
    names = [item.names[locale], *(other.names[locale] for other in rng.sample(elsewhere, CHOICES_OF_OTHERS))]
    rng.shuffle(names)
    return names


def names_in_all_languages(item: Emoji) -> list[str]:
    """Return the names of a picture, in the order of the languages; those of two languages may be equal."""
    return list(dict.fromkeys(item.names.values()))
