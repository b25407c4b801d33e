"""Lines in a range of a file: where it begins, what number its first line has, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20
"""Bytes read at once."""


def count_lines(path: Path, starts: Sequence[int]) -> list[int | None]:
    """Count the ends of lines before the byte that precedes each position, reading the file once."""
    counts: list[int | None] = []
    position = number = 0
    with path.open("rb") as stream:
        for start in starts:
            left = max(0, start - 1) - position
            while left > 0 and (chunk := stream.read(min(CHUNK, left))):
                number += chunk.count(b"\n")
                left -= len(chunk)
                position += len(chunk)
            counts.append(number)
    return counts


def seek_line(stream: BinaryIO, start: int, lines_before: int | None) -> int:
    """Go to the first line that begins at or after a position; return its number."""
    number, left = 1, max(0, start - 1)
    if lines_before is not None:
        stream.seek(left)
        number, left = 1 + lines_before, 0
    while left and (chunk := stream.read(min(CHUNK, left))):
        number += chunk.count(b"\n")
        left -= len(chunk)
    if not start:
        return number
    while piece := stream.readline(CHUNK):
        if piece.endswith(b"\n"):
            return number + 1
    return number


def until(chunks: Iterator[bytes], position: int, stop: int | None) -> Iterator[bytes]:
    """Pass on chunks up to the end of the last line that begins before a position."""
    for chunk in chunks:
        if stop is not None and position + len(chunk) >= stop:
            last = chunk.find(b"\n", max(0, stop - 1 - position))
            if last >= 0:
                yield chunk[: last + 1]
                return
        yield chunk
        position += len(chunk)
