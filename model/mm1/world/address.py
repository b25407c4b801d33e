"""Addresses of the toy world: ``world:<seed>``, with options after a question mark.

::

    world:0                                       the world of seed 0, images of 32 pixels
    world:0?image_size=64                         the same scenes in 64 pixels, with fine marks
    world:0?part=ocr&image_size=64                text pages instead of the input's own part
    world:0?part=instructions+reading+grounding   several parts, each a subfolder, and so a source of its own with a weight
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mm1.config.resolve import suggest
from mm1.config.values import parse_integer, quoted
from mm1.errors import ConfigurationError

SCHEME = "world:"
FORM = "world:<seed>"
EXAMPLE = "world:0 or world:0?image_size=64"
OPTIONS = ("image_size", "part")
DEFAULT_IMAGE_SIZE_PX = 32
IMAGE_SIZES_PX = range(16, 513, 4)
"""Sizes that the renderer takes."""
PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "captions": ("captions", "web_captions", "ocr"),
    "synthetic": ("synthetic",),
    "interleaved": ("interleaved",),
    "text": ("text",),
    "instructions": ("instructions", "reading", "grounding", "marks"),
    "benchmarks": ("benchmarks",),
}
"""Inputs of steps -> the parts that they read, the default first."""


class WorldAddress(NamedTuple):
    """A world and the parts of it that an address names."""

    seed: int
    image_size_px: int = DEFAULT_IMAGE_SIZE_PX
    parts: tuple[str, ...] = ()
    """Empty: the input's own part."""


def parse_world(address: str) -> WorldAddress:
    """Parse an address of the toy world.

    Raises:
        ConfigurationError: the seed is not a number, an option is unknown, given twice, or has an invalid value.
    """
    seed, _, query = address.removeprefix(SCHEME).partition("?")
    try:
        number = parse_integer(seed)
    except ValueError:
        raise ConfigurationError(f"expected {FORM}, for example {EXAMPLE}, got {quoted(address)}") from None
    options = _options(address, query) if "?" in address else {}
    size, parts = options.get("image_size"), options.get("part")
    return WorldAddress(
        number,
        DEFAULT_IMAGE_SIZE_PX if size is None else _image_size(address, size),
        () if parts is None else _parts(address, parts),
    )


def parts_for(address: str, name: str) -> tuple[str, ...]:
    """Return the parts that an input reads from an address: those that it names, or the input's own.

    Args:
        address: address of the toy world.
        name: name of the input.

    Raises:
        ConfigurationError: the address is malformed, or names a part that the input does not read.
    """
    parts = parse_world(address).parts
    known = PARTS_OF.get(name, (name,))
    if (wrong := next((part for part in parts if part not in known), None)) is not None:
        raise ConfigurationError(f"part: {wrong!r} in {quoted(address)} is not among the parts for {name}: {', '.join(known)}")
    return parts or known[:1]


def _options(address: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in query.split("&"):
        name, is_given, value = item.partition("=")
        if not is_given:
            raise ConfigurationError(f"expected name=value after '?' in {quoted(address)}, got {quoted(item)}")
        if name not in OPTIONS:
            raise ConfigurationError(f"unknown option {quoted(name)} in {quoted(address)}; {suggest(name, OPTIONS)}")
        if name in options:
            raise ConfigurationError(f"{name} is given twice in {quoted(address)}; give it once")
        options[name] = value
    return options


def _image_size(address: str, value: str) -> int:
    try:
        size = parse_integer(value)
    except ValueError:
        size = -1
    if size not in IMAGE_SIZES_PX:
        smallest, largest = IMAGE_SIZES_PX[0], IMAGE_SIZES_PX[-1]
        raise ConfigurationError(
            f"image_size: expected a multiple of {IMAGE_SIZES_PX.step} from {smallest} to {largest} pixels, got "
            f"{quoted(value)} in {quoted(address)}"
        )
    return size


def _parts(address: str, value: str) -> tuple[str, ...]:
    parts, known = tuple(value.split("+")), tuple(dict.fromkeys(part for parts in PARTS_OF.values() for part in parts))
    if (wrong := next((part for part in parts if part not in known), None)) is not None:
        raise ConfigurationError(f"part: no part {quoted(wrong)} in {quoted(address)}; {suggest(wrong, known)}")
    if len(set(parts)) < len(parts):
        raise ConfigurationError(f"part: a part is given twice in {quoted(address)}; give each once")
    return parts
