"""Base of the readers of raw formats: the file being read, the files next to it, and text cleaning.

A reader is a function ``(file, clean) -> Iterator[Sample]`` that streams, so memory does not grow with the input. For a
damaged or malformed file it raises a :class:`~mm1.errors.DataError` that names the file (and the row). Readers do not judge
the quality of well-formed samples; that is left to the filters. A missing image has empty bytes, which no filter accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mm1.data.prepare.sources.roots import RawRoot, inside
from mm1.data.sample import Sample
from mm1.errors import DataError

Clean = Callable[[str], str]
Fetch = Callable[[str], bytes]
REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class RawInput:
    """A raw file being read."""

    source: str
    """The source of its samples."""
    root: RawRoot
    name: str
    """File name relative to the root."""
    fetch: Fetch | None = None
    """Fetches a remote image (empty bytes on failure); None if fetching is not allowed."""

    @cached_property
    def path(self) -> Path:
        """The file on the local disk."""
        return self.root.local(self.name)

    def origin(self, row: object) -> str:
        """Format file and row, for messages."""
        return f"{self.name}:{row}"

    def read_adjacent(self, name: str, origin: str, folders: Sequence[str] = ("",)) -> bytes:
        """Read an image named by a row, relative to the file or to folders next to it; empty if it does not exist.

        Raises:
            DataError: the name is a remote address and fetching is not allowed, or it points outside the root.
        """
        if REMOTE.match(name):
            if self.fetch is not None:
                return self.fetch(name)
            raise DataError(
                f"{origin}: {name[:100]} is a remote address; set remote=fetch to download it, "
                "or download the images first (e.g. with img2dataset) and put them next to this file or into its rows as bytes"
            )
        parent = self.name.rpartition("/")[0]
        for folder in folders:
            try:
                data = self.root.read(inside(f"{parent}/{folder}".strip("/"), name, self.root.address))
            except DataError as error:
                raise DataError(f"{origin}: {error}") from None
            if data is not None:
                return data
        return b""


Reader = Callable[[RawInput, Clean], Iterator[Sample]]


def cleaner(reserved: Sequence[str]) -> Clean:
    """Create a function that removes the tokenizer's special tokens and surrounding whitespace from raw text.

    A literal ``<image>`` in raw text must not be treated as an image placeholder.
    """
    pattern = re.compile("|".join(re.escape(token) for token in sorted(reserved, key=len, reverse=True)) or r"(?!)")

    def clean(text: str) -> str:
        while (shorter := pattern.sub("", text)) != text:  # repeat, because a removal may form another token
            text = shorter
        return text.strip()

    return clean
