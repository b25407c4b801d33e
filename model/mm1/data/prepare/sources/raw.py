"""What the readers of raw formats share: the file that is read and what lies beside it, and cleaning text.

A reader is a function ``(file, clean) -> Iterator[Sample]`` that streams: memory does not grow with the input. It fails with
a :class:`~mm1.errors.DataError` that names the file (and the row) where a file is damaged or of another form; whether a
well-formed sample is good enough is left to the filters. A missing image comes as empty bytes, which no filter lets pass.
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
    """A raw file that is being read."""

    source: str
    """The source that its samples are of."""
    root: RawRoot
    name: str
    """Relative to the root."""
    fetch: Fetch | None = None
    """Gets a remote image (empty bytes where it cannot be had); None where nothing may be fetched."""

    @cached_property
    def path(self) -> Path:
        """The file on this machine."""
        return self.root.local(self.name)

    def origin(self, row: object) -> str:
        """File and row, for messages."""
        return f"{self.name}:{row}"

    def beside(self, name: str, origin: str, folders: Sequence[str] = ("",)) -> bytes:
        """An image that a row names, relative to the file or to folders beside it; empty when there is none.

        Raises:
            DataError: the name is a remote address and nothing may be fetched, or climbs out of the root.
        """
        if REMOTE.match(name):
            if self.fetch is not None:
                return self.fetch(name)
            raise DataError(
                f"{origin}: {name[:100]} is a remote address and nothing is fetched unless remote=fetch is given; "
                "or fetch the images first (img2dataset does it) and give them as files beside, or as bytes in the rows"
            )
        here = self.name.rpartition("/")[0]
        for folder in folders:
            try:
                data = self.root.read(inside(f"{here}/{folder}".strip("/"), name, self.root.address))
            except DataError as error:
                raise DataError(f"{origin}: {error}") from None
            if data is not None:
                return data
        return b""


Reader = Callable[[RawInput, Clean], Iterator[Sample]]


def cleaner(reserved: Sequence[str]) -> Clean:
    """A function that takes the tokenizer's special tokens and surrounding space out of raw text.

    Raw text that contains ``<image>`` must not be read as the place of an image.
    """
    pattern = re.compile("|".join(re.escape(token) for token in sorted(reserved, key=len, reverse=True)) or r"(?!)")

    def clean(text: str) -> str:
        while (shorter := pattern.sub("", text)) != text:  # again, as taking one out may join another
            text = shorter
        return text.strip()

    return clean
