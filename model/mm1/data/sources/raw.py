"""What the readers of raw formats share: finding files, cleaning text, refusing what lies outside.

A reader is a function ``(path, clean) -> Iterator[Sample]`` that streams: memory does not grow with the input. It fails with
a :class:`~mm1.errors.DataError` that names the file (and the row) where a file is damaged or of another form; whether a
well-formed sample is good enough is left to the filters. A missing image comes as empty bytes, which no filter lets pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mm1.data.sample import Sample
from mm1.errors import ConfigurationError, DataError

Clean = Callable[[str], str]
Reader = Callable[[Path, Clean], Iterator[Sample]]
REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


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


def find_files(path: Path, suffixes: Sequence[str], what: str) -> list[Path]:
    """Files of a source in a fixed order: the path itself, or those with a suffix in the folder (not below it).

    Raises:
        DataError: the folder has none.
        ConfigurationError: the file has another suffix.
    """
    if path.is_file():
        if not path.name.endswith(tuple(suffixes)):
            raise ConfigurationError(f"{path}: {what} must end with {' or '.join(suffixes)}")
        return [path]
    found = sorted(item for item in path.iterdir() if item.name.endswith(tuple(suffixes)) and not item.name.startswith("."))
    if not found:
        raise DataError(f"{path}: no {what} in this folder (files that end with {' or '.join(suffixes)})")
    return found


def read_beside(folders: Sequence[Path], name: str, origin: str) -> bytes:
    """An image file that a row names, relative to one of some folders; empty when there is none.

    Raises:
        DataError: the name is a remote address, or climbs out of the folder.
    """
    if REMOTE.match(name):
        raise DataError(
            f"{origin}: {name[:100]} is a remote address and nothing is downloaded here; fetch the images first "
            "(img2dataset does it) and give them as files beside, or as bytes in the rows"
        )
    for folder in folders:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise DataError(f"{origin}: {name[:100]} climbs out of {folder}")
        if path.is_file():
            return path.read_bytes()
    return b""
