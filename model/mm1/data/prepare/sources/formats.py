"""The types of sources and their formats: which reader reads a file, decided by what the file holds.

A source may mix formats. Whatever it holds and no reader takes is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from mm1.data.chat import ChatTemplate
from mm1.data.config import MAX_ROW_BYTES
from mm1.data.prepare.files import jsonl, parquet
from mm1.data.prepare.files.kinds import Look, look, suffix_of
from mm1.data.prepare.files.raw import Clean, Fetch, Item, RawInput, Reader
from mm1.data.prepare.files.roles import ROLES, column_for
from mm1.data.prepare.locations.roots import LeftOut, RawRoot
from mm1.data.prepare.sources import conversations, mmc4, obelics, text
from mm1.data.prepare.sources.captions import files as caption_files
from mm1.data.prepare.sources.captions import tables as caption_tables
from mm1.data.prepare.sources.captions import webdataset
from mm1.errors import ConfigurationError, DataError, typed
from mm1.errors.recognize import text_of
from mm1.manifests import RawFile

LOOKING_THREADS = 16
_TABLES = ("parquet", "arrow")
_JSON = ("json-lines", "json-list", "json")
_CAPTION_TABLES = {
    "parquet": "img2dataset-parquet",
    "arrow": "img2dataset-parquet",
    "json-lines": "caption-json",
    "json-list": "caption-json",
    "csv": "caption-csv",
}
"""Kind of file -> its format, if it has images."""


class Options(NamedTuple):
    """What the user said about a source."""

    fetch: Fetch | None = None
    """Fetches remote images; None = refused."""
    columns: Mapping[str, str] = {}
    """Role -> name of the column or field (:mod:`mm1.data.prepare.files.roles`)."""
    max_row_bytes: int = MAX_ROW_BYTES
    template: ChatTemplate | None = None
    """Chat template of the decoder's family; None for ChatML."""


DEFAULTS = Options()
NAMED_IMAGE = "image, read only if a row names it"
NO_CAPTION = "image without a caption of its name"
JSON_METADATA = "JSON metadata"
TABLE_METADATA = "table without images"
ADDRESSES = "addresses of images: download them with img2dataset or remote=fetch"
CACHE = "cache of Hugging Face datasets"
TAR_METADATA = "metadata of a tar"
SUMMARY = "metadata of the parquet files next to it"
EXPECTED = (NAMED_IMAGE, JSON_METADATA, TABLE_METADATA, TAR_METADATA, ADDRESSES, CACHE, SUMMARY)
"""Reasons for files that belong to data sets and are no data themselves."""


class Format(NamedTuple):
    """A format of raw files."""

    read: Reader
    split: Callable[[RawRoot, RawFile, int], list[RawFile]] | None = None
    """Splits a file into ranges of about some bytes; None if it can only be read whole."""


FORMATS: dict[str, Format] = {
    "img2dataset": Format(webdataset.read_tar, webdataset.split_tar),
    "img2dataset-zip": Format(webdataset.read_zip),
    "img2dataset-parquet": Format(caption_tables.read_parquet, parquet.split),
    "img2dataset-files": Format(caption_files.read_files),
    "caption-json": Format(caption_tables.read_json, jsonl.split),
    "caption-csv": Format(caption_tables.read_csv),
    "obelics": Format(obelics.read, parquet.split),
    "obelics-json": Format(obelics.read, jsonl.split),
    "mmc4": Format(mmc4.read, jsonl.split),
    "jsonl": Format(text.read_jsonl, jsonl.split),
    "parquet": Format(text.read_parquet, parquet.split),
    "llava": Format(conversations.read, jsonl.split),
    "llava-parquet": Format(conversations.read, parquet.split),
}


class Discovery(NamedTuple):
    """What a source holds."""

    files: dict[str, list[RawFile]]
    """Format -> its files, in order."""
    num_files: int
    """Files that are read; captions and JSON next to images count, too."""
    left_out: list[LeftOut]


class _Refused(NamedTuple):
    """Why a file is not read."""

    reason: str


def discover(source: str, root: RawRoot, options: Options = DEFAULTS) -> Discovery:
    """Find the format of every file of a source.

    Raises:
        DataError: no file can be read.
        ConfigurationError: the address is a single file that cannot be read.
    """
    listed = root.list()
    pairs, others = caption_files.find_pairs(listed) if source in ("captions", "synthetic") else ([], listed)
    files: dict[str, list[RawFile]] = {"img2dataset-files": pairs} if pairs else {}
    refused: list[tuple[RawFile, str]] = []
    with ThreadPoolExecutor(LOOKING_THREADS) as pool:
        looks = dict(zip((file.name for file in others), pool.map(lambda file: look(root, file), others), strict=True))
    for file in others:
        form = _form_of(source, file, looks[file.name], options)
        if isinstance(form, _Refused):
            refused.append((file, form.reason))
        else:
            files.setdefault(form, []).append(file)
    if not files and options.fetch is not None:  # next to data, addresses are their metadata
        for file in (file for file, reason in refused if reason == ADDRESSES):
            files.setdefault(_CAPTION_TABLES[looks[file.name].kind], []).append(file)
        refused = [(file, reason) for file, reason in refused if reason != ADDRESSES]
    left_out = [*root.left_out(), *_left_out(source, files, refused)]
    if not files:
        raise _nothing(source, root, left_out)
    return Discovery({form: files[form] for form in FORMATS if form in files}, len(listed) - len(refused), left_out)


def _left_out(source: str, files: Mapping[str, Sequence[RawFile]], refused: Sequence[tuple[RawFile, str]]) -> list[LeftOut]:
    """Name each refused file with its reason, which may depend on the files next to it."""
    tars = {tar.name.partition(".tar")[0] for tar in files.get("img2dataset", ())}
    has_rows = source not in ("captions", "synthetic") or bool(files.keys() & _CAPTION_TABLES.values())

    def reason_for(reason: str, file: RawFile) -> str:
        if reason == NAMED_IMAGE and not has_rows:
            return NO_CAPTION
        is_metadata = reason in (ADDRESSES, TABLE_METADATA, JSON_METADATA)
        return TAR_METADATA if is_metadata and file.name.rpartition(".")[0].removesuffix("_stats") in tars else reason

    return [LeftOut(file.name, file.num_bytes, reason_for(reason, file)) for file, reason in refused]


def _nothing(source: str, root: RawRoot, left_out: Sequence[LeftOut]) -> Exception:
    examples = {each.reason: each.name for each in reversed(left_out)}
    why = "; ".join(f"{reason} (for example {examples[reason]})" for reason in [*reversed(examples)][:3])
    message = f"{root.address}: no file can be read as {source}: {why or 'the folder is empty'}"
    return ConfigurationError(message) if root.is_file else DataError(message)


def _form_of(source: str, file: RawFile, seen: Look, options: Options) -> str | _Refused:
    """Choose the format of a file, or the reason why it is not read."""
    if seen.kind == "image":
        return _Refused(NAMED_IMAGE)
    if seen.kind == "caption" and source in ("captions", "synthetic"):
        return _Refused("text without an image of its name")
    if seen.kind == "caption":
        return _Refused("plain text: write it as JSON lines with a field 'text'")
    if seen.kind == "empty":
        return _Refused("empty file")
    if seen.kind == "damaged":
        raise DataError(f"{file.name}: truncated or damaged at its beginning ({seen.compression}); fetch it again")
    name = file.name.rpartition("/")[2]
    if seen.kind == "arrow" and name.startswith("cache-"):
        return _Refused(CACHE)
    if seen.kind == "parquet" and name in ("_metadata", "_common_metadata"):
        return _Refused(SUMMARY)
    return _SOURCES[source](seen, options)


def _captions(seen: Look, options: Options) -> str | _Refused:
    if seen.kind in ("tar", "zip"):
        return "img2dataset" if seen.kind == "tar" else "img2dataset-zip"
    if seen.kind in _TABLES and not seen.fields:
        return _CAPTION_TABLES[seen.kind]  # its metadata are damaged, and the reader says how
    if seen.kind in _CAPTION_TABLES:
        if column_for("image", seen.fields, options.columns):
            return _CAPTION_TABLES[seen.kind]
        if "image" in options.columns:
            return _Refused(f"table without the column {options.columns['image']!r}, which columns names for images")
        if column_for("url", seen.fields, options.columns) and column_for("caption", seen.fields, options.columns):
            return _Refused(ADDRESSES)
        return _Refused(JSON_METADATA if seen.kind in _JSON else TABLE_METADATA)
    return _unknown(seen)


def _interleaved(seen: Look, options: Options) -> str | _Refused:
    if _is_zip_of_json(seen) or (seen.kind in _JSON and (not seen.fields or "text_list" in seen.fields)):
        return "mmc4"
    return _with_roles(seen, options, ("images", "texts"), table="obelics", json="obelics-json")


def _text(seen: Look, options: Options) -> str | _Refused:
    if _is_zip_of_json(seen):
        return "jsonl"
    return _with_roles(seen, options, ("text",), table="parquet", json="jsonl")


def _instructions(seen: Look, options: Options) -> str | _Refused:
    return _with_roles(seen, options, ("conversation",), table="llava-parquet", json="llava")


def _is_zip_of_json(seen: Look) -> bool:
    return seen.kind == "zip" and any(suffix_of(name) in jsonl.SUFFIXES for name in seen.fields)


def _with_roles(seen: Look, options: Options, roles: Sequence[str], table: str, json: str) -> str | _Refused:
    """Return the format of rows that have the fields of all roles; fields that could not be seen are left to the reader."""
    if seen.kind not in (*_TABLES, *_JSON):
        return _unknown(seen)
    for role in roles:
        if seen.fields and not seen.is_sample and column_for(role, seen.fields, options.columns) is None:
            expected = options.columns.get(role) or " or ".join(ROLES[role][:2])
            missing = _Refused(f"no field {expected} among {', '.join(seen.fields)[:100]}")
            return _unknown(seen) if seen.kind == "json" else missing
    return table if seen.kind in _TABLES else json


def _unknown(seen: Look) -> _Refused:
    if seen.kind == "json":
        return _Refused(JSON_METADATA)
    return _Refused("unknown format" if seen.kind == "unknown" else f"{seen.kind} file, not a format of this source")


_SOURCES: dict[str, Callable[[Look, Options], str | _Refused]] = {
    "captions": _captions,
    "synthetic": _captions,
    "interleaved": _interleaved,
    "text": _text,
    "instructions": _instructions,
}


class Reading:
    """The items of some files of a source, in order.

    Args:
        source: the source.
        form: name of the format.
        root: location of the files.
        files: the files, or ranges of them.
        clean: applied to all texts.
        options: what the user said about the source.
    """

    def __init__(
        self, source: str, form: str, root: RawRoot, files: Sequence[RawFile], clean: Clean, options: Options = DEFAULTS
    ) -> None:
        self._read = FORMATS[form].read
        self._clean = clean
        given = (options.fetch, options.columns, options.max_row_bytes, options.template)
        self._inputs = [RawInput(source, root, file, *given) for file in files]
        self._finished = 0
        self._current: RawInput | None = None

    def position(self) -> int:
        """Return the number of bytes read so far."""
        return self._finished + (min(self._current.num_done, self._current.file.num_bytes) if self._current else 0)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items.

        Raises:
            DataError: a file is damaged as a whole.
        """
        for file in self._inputs:
            self._current = file
            yield from self._items(file)
            self._current = None
            self._finished += file.file.num_bytes

    def _items(self, file: RawInput) -> Iterator[Item]:
        try:
            yield from self._read(file, self._clean)
        except Exception as error:
            if typed(error) is not None:
                raise
            raise DataError(f"{file.name}: cannot be read ({type(error).__name__}: {text_of(error)[:200]})") from error
