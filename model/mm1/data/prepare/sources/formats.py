"""The types of sources and their formats.

Formats are detected by file name: the first of the source's formats with any matching file is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mm1.data.prepare.sources import img2dataset, llava, mmc4, obelics, text
from mm1.data.prepare.sources.raw import Clean, Fetch, RawInput, Reader
from mm1.data.prepare.sources.roots import RawRoot
from mm1.data.sample import Sample
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawFile


class Format(NamedTuple):
    """A format of raw files."""

    name: str
    what: str
    """Description for messages."""
    suffixes: tuple[str, ...]
    read: Reader


_CAPTIONS = (
    Format("img2dataset", "webdataset tar", (".tar",), img2dataset.read_tar),
    Format("img2dataset-parquet", "img2dataset parquet", (".parquet",), img2dataset.read_parquet),
    Format("img2dataset-files", "captions next to their images", (".txt",), img2dataset.read_files),
)
FORMATS: dict[str, tuple[Format, ...]] = {
    "captions": _CAPTIONS,
    "synthetic": _CAPTIONS,
    "interleaved": (
        Format("obelics", "OBELICS parquet", (".parquet",), obelics.read),
        Format("mmc4", "MMC4 jsonl", (".jsonl", ".jsonl.zst", ".jsonl.gz"), mmc4.read),
    ),
    "text": (
        Format("jsonl", "text file", (".jsonl", ".jsonl.zst", ".jsonl.gz"), text.read_jsonl),
        Format("parquet", "text parquet", (".parquet",), text.read_parquet),
    ),
    "instructions": (Format("llava", "LLaVA conversations", (".json", ".jsonl"), llava.read),),
}
"""Source -> its formats, in order of preference."""


def discover(source: str, root: RawRoot) -> tuple[str, list[RawFile]]:
    """Detect the format of a source; returns it with the files of that format, in order.

    Raises:
        DataError: there are no matching files.
        ConfigurationError: the address is a single file of an unsupported type.
    """
    files = root.list()
    for form in FORMATS[source]:
        if matches := [file for file in files if file.name.endswith(form.suffixes)]:
            return form.name, matches
    suffixes = " or ".join(suffix for form in FORMATS[source] for suffix in form.suffixes)
    what = FORMATS[source][0].what
    if root.is_file:
        raise ConfigurationError(f"{root.address}: {what} must end with {suffixes}")
    raise DataError(f"{root.address}: no {what} in this folder (files that end with {suffixes})")


def read_files(
    source: str, form: str, root: RawRoot, names: Iterable[str], clean: Clean, fetch: Fetch | None = None
) -> Iterator[Sample]:
    """Read the samples of some files of a source, in order.

    Raises:
        DataError: a file is damaged or malformed.
    """
    read = next(candidate.read for candidate in FORMATS[source] if candidate.name == form)
    for name in names:
        yield from read(RawInput(source, root, name, fetch), clean)
