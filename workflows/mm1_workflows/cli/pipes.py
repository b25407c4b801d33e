"""Standard output and error whose reader may go away (``| head``), is not there (``>&-``), or lacks a character (ASCII).

The work goes on to its exit code without a reader; a command that does nothing but print asks to end with it.
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
"""The number of standard error."""


class ReaderLeft(Exception):
    """Nobody reads the output of a command that ends with its reader. No BrokenPipeError: rich exits with 1 at one."""


class Pipe:
    """A text stream that discards what nobody reads any more."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.ends_with_reader = False

    def write(self, text: str) -> int:
        """Write, or discard without a reader."""
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flush, or discard without a reader."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._discard()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _discard(self) -> None:
        """From now on the null device takes what is written, buffered text included."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)
        if self.ends_with_reader:
            raise ReaderLeft


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Within this, a reader of standard output or error that goes away or is missing is no error, nor is any character."""
    former = sys.stdout, sys.stderr
    if None in (sys.stdin, *former):
        _open_closed_descriptors()
    sys.stdout, sys.stderr = (cast(TextIO, Pipe(_tolerant(stream))) for stream in former)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = former


def _open_closed_descriptors() -> None:
    """Give closed ones of the standard descriptors to the null device: else the next file that is opened gets their number."""
    handle = 0
    while handle <= LAST_STANDARD:
        handle = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(handle, handle <= LAST_STANDARD)
    os.close(handle)


def _tolerant(stream: TextIO | None) -> TextIO:
    """The stream, writing characters that its encoding lacks as escapes; the null device for a missing one."""
    if stream is None:
        return Path(os.devnull).open("w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def end_with_reader() -> None:
    """From now on :class:`ReaderLeft` is raised when the reader of standard output is gone."""
    if isinstance(sys.stdout, Pipe):
        sys.stdout.ends_with_reader = True
