"""A JSON list, cut into its elements while it is read, so that the list may be larger than memory.

The cut follows quotes and brackets only. Each element is parsed alone, so one that is not JSON costs one element. If a quote
in it is not closed, reading continues at the next element that begins with the same key. Lists and objects that follow the
list (files joined with ``cat``) are read, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from mm1.data.prepare.files.raw import OddRow, row_too_large

RowT = TypeVar("RowT")
_SKIP = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+', re.DOTALL)
"""Everything up to the next bracket, or to a string that continues after the buffer."""
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*+")
_SCALAR = re.compile(rb'[^\s,"\[\]{}]*+')
_FIRST_KEY = re.compile(rb'\{\s*+("[^"\\]{0,200}+")\s*+:')
_LAST = re.compile(rb"\}\s*+\]\s*+$")


class ListSplitter(Generic[RowT]):
    """Cuts a list into its elements, and parses each.

    Args:
        parse: parses an element.
        max_bytes: maximum size of an element; a larger one is not built.

    Attributes:
        is_unfinished: whether the data ended before the list.
    """

    def __init__(self, parse: Callable[[bytes], RowT | OddRow], max_bytes: int) -> None:
        self.is_unfinished = False
        self._parse = parse
        self._max_bytes = max_bytes
        self._buffer = b""
        self._position = self._start = self._depth = 0
        self._in_list = self._in_element = self._in_string = self._is_skipped = False

    def rows(self, chunks: Iterable[bytes]) -> Iterator[RowT | OddRow]:
        """Yield the elements of a stream, parsed, or the reason why they cannot be."""
        for chunk in chunks:
            self._buffer += chunk
            yield from self._scan()
            if self._in_element and not self._is_skipped and len(self._buffer) - self._start > self._max_bytes:
                while self._resync():
                    yield _unclosed()
                    yield from self._scan()
                self._is_skipped = self._in_element and len(self._buffer) - self._start > self._max_bytes
            self._compact()
        while self._resync():
            yield _unclosed()
            yield from self._scan()
        if self._in_element and self._in_string and not self._is_skipped and _LAST.search(self._buffer[-1000:]):
            yield _unclosed()
        else:
            self.is_unfinished = self._in_list or self._in_element

    def _scan(self) -> Iterator[RowT | OddRow]:
        """Yield the elements that end in the buffer."""
        while self._begin() and self._end():
            self._in_element = False
            element = b"" if self._is_skipped else self._buffer[self._start : self._position]
            if self._is_skipped or len(element) > self._max_bytes:
                self._is_skipped = False
                yield row_too_large(self._max_bytes)
                continue
            row = self._parse(element)
            if isinstance(row, OddRow) and row.name == "not_json":
                if (boundary := _boundary(element)) is not None:
                    self._position = self._start + boundary  # it swallowed the elements that follow
                elif element[:1] + element[-1:] == b"{]":
                    self._position -= 1  # it swallowed the end of the list
            yield row

    def _begin(self) -> bool:
        """Go to the beginning of an element, unless inside one; False if none begins in the buffer."""
        while not self._in_element:
            self._position = _BETWEEN.match(self._buffer, self._position).end()  # type: ignore[union-attr]
            first = self._buffer[self._position : self._position + 1]
            if not first:
                return False
            if (first == b"[" and not self._in_list) or first in b"]}":
                self._in_list = first == b"[" or (first == b"}" and self._in_list)
                self._position += 1
                continue
            self._start, self._in_element = self._position, True
            self._in_string, self._depth = first == b'"', int(first in b"[{")
            self._position += int(first in b'[{"')
        return True

    def _end(self) -> bool:
        """Go to the end of the element; False if the buffer ends before."""
        buffer = self._buffer
        while True:
            if self._in_string:
                self._position = _STRING.match(buffer, self._position).end()  # type: ignore[union-attr]
                if buffer[self._position : self._position + 1] != b'"':
                    return False
                self._in_string = False
                self._position += 1
                if not self._depth:
                    return True
            pattern = _SKIP if self._depth else _SCALAR
            self._position = pattern.match(buffer, self._position).end()  # type: ignore[union-attr]
            following = buffer[self._position : self._position + 1]
            if not following or not self._depth:
                return bool(following)
            self._position += 1
            self._in_string = following == b'"'
            if following in b"[{":
                self._depth += 1
            elif following in b"]}":
                self._depth -= 1
                if not self._depth:
                    return True

    def _compact(self) -> None:
        """Free what is not needed any more."""
        kept = self._start if self._in_element and not self._is_skipped else self._position
        self._buffer = self._buffer[kept:]
        self._position -= kept
        self._start = 0

    def _resync(self) -> bool:
        """Go to the next element if the one that does not end has swallowed some."""
        if not self._in_element or self._is_skipped:
            return False
        boundary = _boundary(self._buffer[self._start :])
        if boundary is not None:
            self._position = self._start + boundary
            self._in_element = self._in_string = False
        return boundary is not None


def _boundary(element: bytes) -> int | None:
    """Return where a following object begins that has the same first key; None if there is none."""
    key = _FIRST_KEY.match(element)
    if key is None:
        return None
    following = re.compile(rb",\s*+(?=\{\s*+" + re.escape(key[1]) + rb"\s*+:)").search(element, key.end())
    return following and following.end()


def _unclosed() -> OddRow:
    return OddRow("not_json", "not JSON (a quote or a bracket is not closed)")
