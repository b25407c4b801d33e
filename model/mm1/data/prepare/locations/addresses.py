"""The addresses of a source, in one text: lists, patterns and ranges.

::

    /data/cc12m                             a folder, a file, or s3://bucket/prefix
    /data/cc12m /data/sbu, s3://raw/coyo    several, separated by spaces or commas
    /data/cc12m/*.tar                       a pattern: * ? [...] {a,b}, and ** for any number of folders
    s3://raw/cc12m/{00000..00015}.tar       a range, with leading zeros
    ["/data/my folder", "/data/a,b"]        a JSON list; its items are not split

A path that exists as it is comes first: a file may be named ``a*.json`` or ``x, y.tar``. After an address that begins with
``/``, ``~``, ``./``, ``../`` or a scheme, only another one of that kind begins a new address: ``s3://raw/my data`` is one.
Files and patterns of one folder of this machine are one address: a list of its files and a pattern give the same names.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from mm1.config.values import local_path, quoted
from mm1.data.prepare.locations.names import is_plain
from mm1.errors import ConfigurationError
from mm1.store.address import BUCKET_SCHEME

MAX_NAMES = 100_000
"""Limit of the names that the ranges of one address stand for."""

_BEGINNING = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|world:|/|~|\.\.?(?=[/\s,]|$)")
_OTHER = re.compile(r"(?!file://)[A-Za-z][A-Za-z0-9+.-]*://|world:")
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?\}")
_GROUP = re.compile(r"\{[^{}]*,[^{}]*\}")
_ALTERNATIVES = re.compile(r"\{[^{}]*(,|\.\.)[^{}]*\}")
_MAGIC = re.compile(r"[*?[{]")


class Address(NamedTuple):
    """One address of a source."""

    text: str
    """As the user wrote it."""
    base: str
    """A path, ``s3://bucket/prefix`` or ``world:<seed>``."""
    names: tuple[str, ...] = ()
    """Files, folders and patterns (without braces) below the base; empty = everything."""


def parse_addresses(text: str) -> list[Address]:
    """Parse the addresses of a source. Only paths are looked up, and nothing needs to exist.

    Raises:
        ConfigurationError: not a list of addresses, an address is given twice, or its braces are invalid.
    """
    addresses: dict[str, Address] = {}
    for address in chain.from_iterable(map(_expand, _items(text))):
        base = address.base.rstrip("/") or "/"
        previous = addresses.get(base)
        if previous is None:
            addresses[base] = address
        elif not previous.names or not address.names or set(previous.names) & set(address.names):
            raise ConfigurationError(f"{quoted(address.text)} is part of another address of the list; give each file once")
        else:
            addresses[base] = Address(f"{previous.text} {address.text}", address.base, previous.names + address.names)
    result = [*addresses.values()]
    return [Address(item.text, item.text) for item in result] if len(result) == 1 and _is_file(result[0].text) else result


def _items(text: str) -> list[str]:
    stripped = text.strip()
    if _exists(text) or not stripped:
        return [text]
    if re.match(r'\[\s*["\]]', stripped) and stripped.endswith("]"):
        try:
            items = json.loads(stripped)
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list) or not items or not all(isinstance(item, str) and item for item in items):
            raise ConfigurationError(f"expected a JSON list of addresses, got {quoted(text)}")
        return items
    return [stripped] if _exists(stripped) else [*_split(stripped)] or [text]


def _split(text: str) -> Iterator[str]:
    """Split at spaces and commas outside braces, where an address begins."""
    pieces = [*_pieces(text)]
    is_free = bool(pieces) and not _BEGINNING.match(text, pieces[0][0])
    while pieces:
        start, end = pieces.pop(0)
        while pieces and not is_free and not _BEGINNING.match(text, pieces[0][0]):
            end = pieces.pop(0)[1]
        yield text[start:end]


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield the beginning and the end of each stretch without separators."""
    depth, start = 0, -1
    for position, character in enumerate(text):
        depth = max(0, depth + {"{": 1, "}": -1}.get(character, 0))
        if depth == 0 and (character.isspace() or character == ","):
            if start >= 0:
                yield start, position
            start = -1
        elif start < 0:
            start = position
    if start >= 0:
        yield start, len(text)


def _exists(text: str) -> bool:
    try:
        return not _OTHER.match(text) and os.path.lexists(local_path(text))
    except ValueError:
        return False


def _expand(text: str) -> Iterator[Address]:
    """Split an address into base and names."""
    scheme = BUCKET_SCHEME if text.startswith(BUCKET_SCHEME) else ""
    if not scheme and (_exists(text) or _OTHER.match(text)):
        yield _existing(text)
        return
    if not _MAGIC.search(text):
        yield Address(text, text)
        return
    pieces = text.removeprefix(scheme).rstrip("/").split("/")
    fixed = next((number for number, piece in enumerate(pieces) if _MAGIC.search(piece)), len(pieces))
    if scheme and fixed == 0:  # several buckets
        expanded = _braces(text)
        if expanded == [text]:
            yield Address(text, text)  # not the name of a bucket: the check of the address names it
        for item in expanded if expanded != [text] else ():
            yield from _expand(item)
        return
    base = scheme + "/".join(pieces[:fixed])
    names = tuple(name.strip("/") for name in _braces("/".join(pieces[fixed:])))
    wrong = next((name for name in names if not is_plain(name)), None)
    if wrong is not None:
        raise ConfigurationError(
            f"expected a pattern without empty pieces, '.' and '..' after its first wildcard, got {quoted(wrong)}"
        )
    yield Address(text, base or ("/" if text.startswith("/") else "."), tuple(dict.fromkeys(names)))


def _existing(text: str) -> Address:
    """Return the address of an existing path; the base of a file is its folder, so that files of a folder are joined."""
    if not _is_file(text):
        return Address(text, text)
    folder, _, name = text.rpartition("/")
    return Address(text, folder or ("/" if text.startswith("/") else "."), (name,))


def _is_file(text: str) -> bool:
    return _exists(text) and local_path(text).is_file()


def _braces(text: str) -> list[str]:
    """Expand alternatives and ranges as a shell does.

    Raises:
        ConfigurationError: the braces are not balanced, or stand for too many names.
    """
    if not _ALTERNATIVES.search(text):
        return [text]
    from braceexpand import braceexpand

    spans = (abs(int(last) - int(first)) // max(1, abs(int(step or 1))) + 1 for first, last, step in _RANGE.findall(text))
    if math.prod(spans) * math.prod(group.count(",") + 1 for group in _GROUP.findall(text)) > MAX_NAMES:
        raise ConfigurationError(f"{quoted(text)} stands for more than {MAX_NAMES:,} names; use a pattern such as *.tar")
    try:
        return [*braceexpand(text, escape=False)]
    except ValueError:
        raise ConfigurationError(f"expected balanced braces, got {quoted(text)}") from None


def label_pieces(address: Address) -> list[str]:
    """Return the pieces of the base from which the label of an address is made, the most specific last."""
    base = address.base
    path = base.removeprefix(BUCKET_SCHEME) if base.startswith(BUCKET_SCHEME) else os.path.abspath(local_path(base))  # noqa: PTH100
    return [piece.lstrip(".") or "_" for piece in path.split("/") if piece] or ["root"]
