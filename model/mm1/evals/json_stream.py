"""Entries of a large JSON file, one after the other: VQAv2's annotations take gigabytes as a whole. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 22
"""Characters to read at once."""
_SPACE = " \t\r\n"
_AFTER_VALUE = frozenset(_SPACE + ",:]}")


def entries(path: Path, key: str | None = None) -> Iterator[tuple[str | int, Any]]:
    """Read the entries of a list, with their numbers from 1, or of an object, with their keys.

    Args:
        path: the file.
        key: name of the list or object within the outermost object; None: the outermost one itself.

    Raises:
        KeyError: the outermost object lacks the key.
        TypeError: there is another kind of value.
        ValueError: the file is damaged.
    """
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        if key is None:
            yield from _children(text)
        else:
            yield from _under(text, key)
        if rest := text.peek():
            raise ValueError(f"{rest!r} after the end")


def keys(path: Path) -> list[str]:
    """Return the keys of the outermost object, in order; empty if it is a list.

    Raises:
        TypeError: it is neither.
        ValueError: the file is damaged.
    """
    names = []
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        if text.peek() == "[":
            return []
        if text.peek() != "{":
            raise TypeError("expected a list or an object")
        for name in _members(text, "{}"):
            names.append(str(name))
            _skip(text)
    return names


def _under(text: _Text, key: str) -> Iterator[tuple[str | int, Any]]:
    if text.peek() != "{":
        raise TypeError(f"expected an object with {key!r}")
    matches = False
    for name in _members(text, "{}"):
        if name == key:
            matches = True
            yield from _children(text)
        else:
            _skip(text)
    if not matches:
        raise KeyError(key)


def _children(text: _Text) -> Iterator[tuple[str | int, Any]]:
    brackets = {"[": "[]", "{": "{}"}.get(text.peek())
    if brackets is None:
        raise TypeError("expected a list or an object")
    for name in _members(text, brackets):
        yield name, text.value()


def _members(text: _Text, brackets: str) -> Iterator[str | int]:
    """Step through a list or an object; the caller reads each value."""
    text.expect(brackets[0])
    number = 0
    while text.peek() != brackets[1]:
        if number:
            text.expect(",")
        number += 1
        if brackets == "{}":
            name = text.value()
            text.expect(":")
            yield str(name)
        else:
            yield number
    text.expect(brackets[1])


def _skip(text: _Text) -> None:
    """Skip a value without keeping it in memory."""
    if text.peek() in ("[", "{"):
        for _ in _children(text):
            pass
    else:
        text.value()


class _Text:
    """The part of a file that has been read and not yet parsed."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """Return the next character that is not a space; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, sign: str) -> None:
        """Skip a character."""
        if (actual := self.peek()) != sign:
            raise ValueError(f"expected {sign!r}, got {actual!r}" if actual else f"the file ends where {sign!r} is expected")
        self._at += 1

    def value(self) -> Any:
        """Parse the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            # A number at the end of what has been read may go on: 1 of 1.5.
            if self._text[end : end + 1] in _AFTER_VALUE or not self._more():
                self._at = end
                return value

    def _more(self) -> bool:
        """Read at least as much as is left, so that a long value is copied a few times only."""
        rest = self._text[self._at :]
        chunk = self._file.read(max(CHUNK, len(rest)))
        self._text, self._at = rest + chunk, 0
        return bool(chunk)
