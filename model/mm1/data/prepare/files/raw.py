"""Base of the readers of raw formats: the file being read, the files next to it, and rows that cannot be read.

A reader is a function ``(file, clean) -> Iterator[Item]`` that streams, so memory does not grow with the input. An item is

- a :class:`~mm1.data.sample.Sample`,
- an :class:`Odd` row, which cannot be read as a sample: it is counted under a name, and too many of them end the ingest, or
- a :class:`~mm1.data.prepare.locations.roots.LeftOut` part of the file that is no row (a hidden member of an archive).

A :class:`~mm1.errors.DataError` is raised only if the file as a whole is damaged. Readers do not judge the quality of
well-formed samples; that is left to the filters. A missing image has empty bytes, which no filter accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from mm1.data.chat import ChatTemplate
from mm1.data.config import MAX_ROW_BYTES
from mm1.data.prepare.files.values import encodable
from mm1.data.prepare.locations.roots import LeftOut, RawRoot, inside
from mm1.data.sample import Sample
from mm1.errors import DataError
from mm1.manifests import RawFile

Clean = Callable[[str], str]
Fetch = Callable[[str], bytes]
RowT = TypeVar("RowT")
REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ODD_VALUES = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, AssertionError)
"""Exceptions of a reader on values that it does not expect."""


class OddRow(Exception):
    """A row that cannot be read as a sample.

    Args:
        name: the name that it is counted under, for example ``no_text``.
        detail: what is wrong and what was expected, without the content of the row.
    """

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


def row_too_large(max_bytes: int) -> OddRow:
    """Return the odd row for one that is larger than ``max_row_bytes``."""
    return OddRow("row_too_large", f"larger than max_row_bytes ({max_bytes:,} bytes)")


class Odd(NamedTuple):
    """An odd row of a file, to be counted."""

    name: str
    origin: str
    detail: str


Item = Sample | Odd | LeftOut
Reader = Callable[["RawInput", Clean], Iterator[Item]]


@dataclass
class RawInput:
    """A raw file being read, or a range of one.

    Args:
        source: source of its samples.
        root: location of the source's files.
        file: the file, and its range.
        fetch: fetches a remote image (empty bytes on failure); None if fetching is not allowed.
        columns: names of columns or fields as given by the user: role (``caption``, ``image``, ``text``, ...) -> name.
        max_row_bytes: maximum size of a row.
        template: chat template of the decoder's family; None for ChatML.

    Attributes:
        num_done: bytes of the file read so far, set by the reader; for the progress.
    """

    source: str
    root: RawRoot
    file: RawFile
    fetch: Fetch | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    max_row_bytes: int = MAX_ROW_BYTES
    template: ChatTemplate | None = None
    num_done: int = 0

    @property
    def name(self) -> str:
        """File name relative to the root."""
        return self.file.name

    @cached_property
    def path(self) -> Path:
        """The file on the local disk."""
        return self.root.local(self.name)

    def origin(self, row: object) -> str:
        """Format file and row, for messages; rows are counted from 1, lines as an editor counts them."""
        return f"{self.name}:{row}"

    def read_adjacent(self, name: str, folders: Sequence[str] = ("",)) -> bytes:
        """Read an image named by a row, relative to the file or to folders next to it; empty if it does not exist.

        Raises:
            OddRow: the name is a remote address and fetching is not allowed, or it points outside the root.
        """
        if REMOTE.match(name):
            return self._fetch(name)
        parent = self.name.rpartition("/")[0]
        for folder in folders:
            try:
                data = self.root.read(inside(f"{parent}/{folder}".strip("/"), name, self.root.address))
            except DataError as error:
                raise OddRow("image_outside", str(error)) from None
            if data is not None:
                return data
        return b""

    def _fetch(self, address: str) -> bytes:
        remedy = "put the images next to this file or into its rows as bytes"
        if not address.lower().startswith(("http://", "https://")):
            raise OddRow("remote_image", f"{address[:100]} is no http(s) address and no file next to this one; {remedy}")
        if self.fetch is None:
            how = f"set remote=fetch to download it, or download first (e.g. with img2dataset) and {remedy}"
            raise OddRow("remote_image", f"{address[:100]} is a remote address; {how}")
        return self.fetch(address)


def read_rows(
    file: RawInput,
    rows: Iterable[tuple[object, RowT | OddRow]],
    make: Callable[[str, RowT], Sample | Iterable[Sample | LeftOut]],
) -> Iterator[Item]:
    """Convert rows to samples; a row that cannot be converted becomes an odd row.

    Args:
        file: the file, for the origins.
        rows: number (or key) of each row with its content, or with the reason why it cannot be read.
        make: converts the content of a row, to samples and what is left out of them; gets its origin, too.
    """
    for number, row in rows:
        origin = file.origin(number)
        try:
            if isinstance(row, OddRow):
                raise row
            made = make(origin, row)
            samples = [made] if isinstance(made, Sample) else list(made)
        except OddRow as odd:
            yield Odd(odd.name, origin, encodable(odd.detail))
        except _ODD_VALUES as error:
            yield Odd("unreadable_row", origin, encodable(f"{type(error).__name__}: {error}"[:200]))
        else:
            yield from samples


def cleaner(reserved: Sequence[str]) -> Clean:
    """Create a function that makes raw text safe to use.

    It removes the tokenizer's special tokens (a literal ``<image>`` in raw text must not be treated as an image placeholder)
    and surrounding whitespace, and makes the text encodable (:func:`~mm1.data.prepare.files.values.encodable`).
    """
    pattern = re.compile("|".join(re.escape(token) for token in sorted(reserved, key=len, reverse=True)) or r"(?!)")

    def clean(text: str) -> str:
        text = encodable(text)
        while (shorter := pattern.sub("", text)) != text:  # repeat, because a removal may form another token
            text = shorter
        return text.strip()

    return clean
