"""Groups of the members of an archive that belong to the same caption pair.

As in webdataset, members belong together if their names are equal up to the first dot (the key) and they are next to each
other; what lies behind the first dot is a member's ending. A group is divided further by what lies between the first and the
last dot (the middle), because people put dots into keys:

1. Members with the same middle form a pair: ``photo.1.jpg photo.1.txt photo.2.jpg photo.2.txt`` are two.
2. A single image without a caption of its own takes those of other middles if one of the middles is empty or both are names of
   fields: ``x.jpg x.0.txt x.1.txt`` (two captions), ``x.input.jpg x.output.txt``.
3. Several images that share captions, and other middles that differ, are odd rows: pairing them would be a guess.
4. An image without any caption has an empty one, a caption without an image has empty bytes; the filters count them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mm1.data.prepare.files.kinds import IMAGE_SUFFIXES
from mm1.data.prepare.files.raw import OddRow
from mm1.data.prepare.files.roles import column_for
from mm1.data.prepare.sources.captions.member_names import Endings
from mm1.data.prepare.sources.captions.pairs import fields_of

MAX_UNITS = 256
"""Pairs of a key that are kept in memory until the key ends."""
_FIELDS = re.compile(
    r"(in|out)puts?|images?|img|pictures?|photo|rgb|captions?|text|txt|alt|labels?|prompts?|source|targets?|meta(data)?|info|"
    r"json|orig(inal)?|" + "|".join(IMAGE_SUFFIXES),
    re.IGNORECASE,
)
"""Middles that name a field of a pair rather than a pair."""


class Pair(NamedTuple):
    """The members of a pair."""

    image: bytes
    texts: list[tuple[str, bytes]]
    """Name and content of each caption."""
    json: bytes | None

    @property
    def is_complete(self) -> bool:
        """Whether there is an image and something that may hold a caption."""
        return bool(self.image) and (bool(self.texts) or self.json is not None)


class Skipped(NamedTuple):
    """A member that belongs to no pair."""

    name: str
    num_bytes: int
    reason: str


Row = tuple[str, Pair | OddRow]


@dataclass(slots=True)
class _Unit:
    """The members of a group with the same middle."""

    images: dict[str, bytes] = field(default_factory=dict)
    """Ending -> content."""
    texts: dict[str, bytes] = field(default_factory=dict)
    json: bytes | None = None
    others: dict[str, None] = field(default_factory=dict)
    odd: OddRow | None = None
    num_bytes: int = 0

    def add(self, role: str, ending: str, content: bytes | OddRow, max_bytes: int) -> None:
        if isinstance(content, OddRow):
            self.odd, content = self.odd or content, b""
        self.num_bytes += len(content)
        if self.num_bytes > max_bytes:
            self.odd = self.odd or too_large(f"a pair with a member .{ending}", self.num_bytes, max_bytes)
        ending = ending.lower()
        if role == "json":
            is_repeated, self.json = self.json is not None, content
        elif role == "image" or role == "caption":
            members = self.images if role == "image" else self.texts
            is_repeated = ending in members
            members[ending] = content
        else:
            is_repeated = ending in self.others
            self.others[ending] = None
        if is_repeated:
            self.odd = OddRow("duplicate_key", f"several members .{ending} of the same key; which belong together is unknown")
        if self.odd:
            self._free()

    def _free(self) -> None:
        """Forget the contents of an odd unit."""
        self.images, self.texts = dict.fromkeys(self.images, b""), dict.fromkeys(self.texts, b"")
        self.json = None if self.json is None else b""
        self.num_bytes = 0


def too_large(name: str, num_bytes: int, max_bytes: int) -> OddRow:
    """Return the odd row for a member or pair above the limit."""
    return OddRow("row_too_large", f"{name} has {num_bytes:,} bytes; at most {max_bytes:,} are read (max_row_bytes)")


class Group:
    """Members of a key, in order.

    Args:
        key: the key.
        endings: roles of the members.
        max_bytes: maximum size of a pair, and of all pairs that are kept.
    """

    def __init__(self, key: str, endings: Endings, max_bytes: int) -> None:
        self.key = key
        self.endings = endings
        self.max_bytes = max_bytes
        self._units: dict[str, _Unit] = {}
        self._latest = ""
        self.num_bytes = 0

    def add(self, role: str, ending: str, content: bytes | OddRow) -> None:
        """Add a member."""
        middle = ending.rpartition(".")[0]
        if role != "image" and middle and "." not in middle and self.endings.role(middle) == "image":
            middle = ""  # photo.jpg.txt is the caption of photo.jpg
        if middle and self.endings.is_given(ending):
            middle = ""
        unit = self._units.get(middle)
        if unit is None:
            unit = self._units[middle] = _Unit()
        before = unit.num_bytes
        unit.add(role, ending, content, self.max_bytes)
        self.num_bytes += unit.num_bytes - before
        self._latest = middle

    def has_image(self) -> bool:
        """Whether there is an image so far."""
        return any(unit.images for unit in self._units.values())

    @property
    def is_full(self) -> bool:
        """Whether complete pairs should be taken out before the key ends."""
        return self.num_bytes > self.max_bytes or len(self._units) > MAX_UNITS

    def take_complete(self) -> Iterator[Row | Skipped]:
        """Take out the pairs that are complete; if there is none, all of them."""
        complete = [
            middle
            for middle, unit in self._units.items()
            if middle and middle != self._latest and unit.images and (unit.texts or unit.json is not None)
        ]
        units = {middle: self._units.pop(middle) for middle in complete or list(self._units)}
        self.num_bytes = sum(unit.num_bytes for unit in self._units.values())
        yield from self._rows(units)

    def rows(self) -> Iterator[Row | Skipped]:
        """Yield the pairs of a group that has ended, each with its name."""
        yield from self._rows(self._units)

    def _rows(self, units: dict[str, _Unit]) -> Iterator[Row | Skipped]:
        if len(units) > 1:
            yield from self._join(units)
        key = units.get("")
        has_image = key is not None and bool(key.images)
        is_bare = not any(unit.images or unit.texts for unit in units.values())
        for middle, unit in units.items():
            yield from self._unit_rows(middle, unit, has_image=has_image, is_bare=is_bare)

    def _name(self, middle: str) -> str:
        return f"{self.key}.{middle}" if middle else self.key

    def _unit_rows(self, middle: str, unit: _Unit, *, has_image: bool, is_bare: bool) -> Iterator[Row | Skipped]:
        """Yield the pair of a unit.

        Args:
            middle: middle of the members' names.
            unit: the members.
            has_image: whether the key itself has an image, so that others are further fields of its pair.
            is_bare: whether the group has neither images nor captions.
        """
        name = self._name(middle)
        if unit.odd:
            yield name, unit.odd
            return
        endings = sorted(unit.images, key=_preference)
        for ending in endings[1:]:
            yield Skipped(f"{self.key}.{ending}", len(unit.images[ending]), "second image of a pair")
        if not unit.images and not unit.texts:
            if unit.json is None or not self._holds_caption(unit.json):
                if is_bare:
                    ending = next(iter(unit.others), "json")
                    yield Skipped(f"{self.key}.{ending}" if ending else self.key, unit.num_bytes, "neither image nor caption")
                return
        elif middle and not unit.texts and unit.json is None and has_image:
            yield Skipped(f"{self.key}.{endings[0]}", unit.num_bytes, "second image of a pair")
            return
        image = unit.images[endings[0]] if endings else b""
        texts = [(f"{self.key}.{ending}", content) for ending, content in unit.texts.items()]
        yield name, Pair(image, texts, unit.json)

    def _join(self, units: dict[str, _Unit]) -> Iterator[Row]:
        """Give captions of other middles to an image (rule 2); where that would be a guess, take out odd rows (rule 3)."""
        images = [middle for middle, unit in units.items() if unit.images and not self._is_captioned(unit)]
        captions = [middle for middle, unit in units.items() if not unit.images and self._is_captioned(unit)]
        key = units.get("")
        if not images or not captions or (key and key.images and "" not in images):
            return  # nothing to join; or the key has its own pair, and the others are further fields
        has_pairs = any(unit.images and self._is_captioned(unit) for unit in units.values())
        if len(images) > 1 or has_pairs or not all(_may_join(images[0], middle) for middle in captions):
            odd = OddRow("several_images" if len(captions) == 1 < len(images) else "ambiguous_key", self._endings_of(units))
            yield from ((self._name(middle), odd) for middle in images)
            for middle in (*images, *captions):
                del units[middle]
            return
        others = [middle for middle, unit in units.items() if unit.json is not None and not unit.images and not unit.texts]
        target = units.pop(images[0])
        for unit in (units.pop(middle) for middle in captions):
            target.texts |= unit.texts
            target.json = target.json or unit.json
            target.odd = target.odd or unit.odd
        if not target.json and len(others) == 1 and others[0] in units:
            target.json = units.pop(others[0]).json
        units["" if "" not in units else images[0]] = target

    def _is_captioned(self, unit: _Unit) -> bool:
        return bool(unit.texts) or (unit.json is not None and self._holds_caption(unit.json))

    def _endings_of(self, units: dict[str, _Unit]) -> str:
        endings = [f".{ending}" for unit in units.values() for ending in (*unit.images, *unit.texts)]
        more = f" and {len(endings) - 6} more" if len(endings) > 6 else ""
        names = ", ".join(ending[:40] for ending in endings[:6])
        return (
            f"the members of the key end in {names}{more}; which image belongs to which caption is unknown: rename them, or "
            'name the endings with columns="captions.image=ENDING captions.caption=ENDING"'
        )

    def _holds_caption(self, data: bytes) -> bool:
        fields = fields_of(data)
        return fields is None or column_for("caption", fields, self.endings.columns) is not None


def _may_join(image: str, caption: str) -> bool:
    return not image or not caption or bool(_FIELDS.fullmatch(image) and _FIELDS.fullmatch(caption))


def _preference(ending: str) -> int:
    suffix = ending[ending.rfind(".") + 1 :]
    return IMAGE_SUFFIXES.index(suffix) if suffix in IMAGE_SUFFIXES else -1
