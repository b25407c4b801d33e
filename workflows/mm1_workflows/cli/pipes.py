"""Standard output and error that tolerate a closed reader (``| head``), a closed stream (``>&-``) and encodings such as ASCII.

Without a reader, a command continues to its exit code. A command that only prints output can choose to exit with its reader.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

LAST_STANDARD = 2
"""File descriptor of standard error."""


class ReaderLeft(Exception):
    """The reader of a command that exits with its reader is gone. Not a BrokenPipeError, for which rich exits with 1."""


class Pipe:
    """A text stream that discards its output once the reader is gone."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.ends_with_reader = False

    def write(self, text: str) -> int:
        """Write text, or discard it without a reader."""
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard its buffer without a reader."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._discard()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _discard(self) -> None:
        """Redirect the stream, including buffered text, to the null device."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)
        if self.ends_with_reader:
            raise ReaderLeft


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Tolerate closed readers, closed streams and unencodable characters inside the block."""
    previous = sys.stdout, sys.stderr
    if None in (sys.stdin, *previous):
        _open_closed_descriptors()
    sys.stdout, sys.stderr = (cast(TextIO, Pipe(_tolerant(stream))) for stream in previous)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = previous


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors on the null device, so that the next opened file does not get their number."""
    handle = 0
    while handle <= LAST_STANDARD:
        handle = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(handle, handle <= LAST_STANDARD)
    os.close(handle)


def _tolerant(stream: TextIO | None) -> TextIO:
    """Return the stream with escapes for unencodable characters, or the null device for a closed stream."""
    if stream is None:
        return Path(os.devnull).open("w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def end_with_reader() -> None:
    """Raise :class:`ReaderLeft` once the reader of standard output is gone."""
    if isinstance(sys.stdout, Pipe):
        sys.stdout.ends_with_reader = True
