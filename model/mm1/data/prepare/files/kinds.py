"""What a raw file is, found by looking into it: its kind, and the names of its columns or fields.

An ending decides only for images (``.jpg``), of which a folder may hold millions. Everything else is recognised by its first
bytes (parquet: its schema), compressed or not.
"""

from __future__ import annotations

import json
import re
import struct
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from mm1.data.prepare.files import jsonl
from mm1.data.prepare.files.compressed import DAMAGE, SUFFIXES, compression_of, decompress_head
from mm1.data.prepare.files.csv_rows import split_header
from mm1.data.prepare.files.parquet import read_footer
from mm1.data.prepare.files.roles import column_for
from mm1.data.prepare.files.values import BYTE_ORDER_MARK
from mm1.data.prepare.locations.roots import RawRoot
from mm1.manifests import RawFile

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "img", "jfif", "avif", "heic", "svg")
CAPTION_SUFFIXES = ("txt", "caption")
HEAD_BYTES = 1 << 16
"""Bytes of a file that are looked at."""
COMPRESSED_BYTES = (1 << 20) + (1 << 16)
"""Bytes of a compressed file that are looked at: more than a block, of which bzip2 decompresses nothing before its end."""
_ZIP_HEADER = struct.Struct("<6xH10xI4xHH")
MAX_ROWS = 100
"""Maximum number of JSON objects that are looked at."""
_OBJECTS = re.compile(r'(\[\s*)*\{\s*["}]|\[\s*\]')
_BETWEEN = re.compile(r"[\s,\]]*")


class Look(NamedTuple):
    """What was seen in a file."""

    kind: str
    """image, caption, tar, zip, parquet, arrow, json-lines, json-list, json, csv, empty, damaged or unknown."""
    fields: tuple[str, ...] = ()
    """Columns of a table, fields of the first JSON objects, or names of the first members of a zip archive."""
    compression: str = ""
    is_sample: bool = False
    """Whether the fields are those of one row of many, which may be an odd one."""


def suffix_of(name: str) -> str:
    """Return the part of a name behind its last dot, in lower case."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""


def look(root: RawRoot, file: RawFile) -> Look:
    """Look into a file."""
    suffix = suffix_of(file.name)
    if suffix in IMAGE_SUFFIXES:
        return Look("image")
    if not file.num_bytes:
        return Look("caption" if suffix in CAPTION_SUFFIXES else "empty")
    head = root.read_range(file.name, 0, HEAD_BYTES)
    if suffix in CAPTION_SUFFIXES:
        seen = _look_at(head, suffix)
        return seen if seen.fields else Look("caption")
    if compression := compression_of(head):
        head = root.read_range(file.name, 0, COMPRESSED_BYTES)
        try:
            inner = decompress_head(head, HEAD_BYTES)
        except DAMAGE:
            return Look("damaged", compression=compression)
        return (_look_at(inner, _inner_suffix(file.name)) if inner else Look("empty"))._replace(compression=compression)
    if head[:4] == b"PAR1":
        return Look("parquet", _parquet_columns(root, file))
    if head[:6] == b"ARROW1" or suffix == "arrow":
        return Look("arrow", _arrow_columns(root, file))
    return _look_at(head, suffix)


def _inner_suffix(name: str) -> str:
    """Return the ending of a compressed file's name before that of its compression."""
    suffix = suffix_of(name)
    return suffix_of(name[: -len(suffix) - 1]) if suffix in SUFFIXES else suffix


def _look_at(head: bytes, suffix: str) -> Look:
    """Look at the first bytes of a file, decompressed."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Look("zip", tuple(_zip_names(head)))
    if _is_tar(head):
        return Look("tar")
    encoding = json.detect_encoding(head[:4])  # the readers refuse any other than UTF-8, with the remedy
    text = head.decode(encoding, "replace").removeprefix(BYTE_ORDER_MARK).lstrip()
    if text[:1] in ("[", "{") and suffix not in jsonl.SUFFIXES and not _is_json(text, is_whole=len(head) < HEAD_BYTES):
        return Look("unknown")
    if text[:1] == "[":
        rows = _first_rows(text[1:])
        return Look("json-list", rows.fields, is_sample=rows.is_sample)
    if text[:1] == "{":
        return _json_object(text, suffix)
    if suffix in ("csv", "tsv") or suffix in CAPTION_SUFFIXES:
        columns = split_header(text.splitlines()[0])[1] if text else []
        is_table = suffix not in CAPTION_SUFFIXES or all(column_for(role, columns, {}) for role in ("image", "caption"))
        return Look("csv", tuple(columns)) if is_table else Look("unknown")
    return _json_behind_other_lines(text, suffix)


def _is_json(text: str, *, is_whole: bool) -> bool:
    """Tell objects or a list of them from other texts that begin with a bracket: a badge in Markdown, a section, a template."""
    return _OBJECTS.match(text) is not None and (not is_whole or _first_rows(text.removeprefix("[")).num_rows > 0)


def _json_behind_other_lines(text: str, suffix: str) -> Look:
    """Recognise JSON lines of which the first are something else (null, a comment, the rest of a row)."""
    lines = [line for line in text.split("\n") if line.strip()]
    objects = [line for line in lines if line.lstrip()[:1] == "{" and line.rstrip()[-1:] == "}"]
    if suffix not in jsonl.SUFFIXES and 2 * len(objects) < len(lines):
        return Look("unknown")  # an example in a text
    rows = _first_rows("\n".join(objects[:MAX_ROWS]))
    return Look("json-lines", rows.fields, is_sample=rows.is_sample) if rows.num_rows else Look("unknown")


def _zip_names(head: bytes) -> Iterator[str]:
    """Yield the names of the first members of a zip archive, without folders."""
    position = 0
    while head[position : position + 4] == b"PK\x03\x04" and position + _ZIP_HEADER.size <= len(head):
        flags, size, name_size, extra_size = _ZIP_HEADER.unpack_from(head, position)
        begin = position + _ZIP_HEADER.size
        name = head[begin : begin + name_size].decode("utf-8", "replace")
        if not name.endswith("/"):
            yield name
        if flags & 8:  # its size comes after its content
            return
        position = begin + name_size + extra_size + size


def _is_tar(head: bytes) -> bool:
    block = head[: tarfile.BLOCKSIZE]
    if len(block) == tarfile.BLOCKSIZE and not any(block):
        return True  # an archive without members
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _json_object(text: str, suffix: str) -> Look:
    """Tell JSON lines from one JSON object (statistics, an index)."""
    rows = _first_rows(text)
    is_object = text.partition("\n")[0].strip() == "{" or (suffix == "json" and rows.num_rows == 1 and not rows.is_sample)
    return Look("json" if is_object else "json-lines", rows.fields, is_sample=rows.is_sample)


class _Rows(NamedTuple):
    fields: tuple[str, ...]
    num_rows: int
    is_sample: bool


def _first_rows(text: str) -> _Rows:
    """Read the first JSON objects in a text, with lines or commas between them, as far as they are complete."""
    fields: dict[str, None] = {}
    position = num_rows = 0
    is_complete = False
    while num_rows < MAX_ROWS and not is_complete:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        is_complete = position == len(text)
        try:
            row, position = json.JSONDecoder().raw_decode(text, position)
        except (ValueError, RecursionError):
            position = text.find("\n", position)
            if position < 0:
                break
            continue
        num_rows += 1
        fields |= dict.fromkeys(row if isinstance(row, dict) else ())
    return _Rows(tuple(fields), num_rows, is_sample=num_rows < 2 and not is_complete)


def _parquet_columns(root: RawRoot, file: RawFile) -> tuple[str, ...]:
    """Read the column names from the footer; empty if it is damaged (the reader says how)."""
    try:
        return tuple(read_footer(root, file).schema.to_arrow_schema().names)
    except (pa.ArrowException, OSError, ValueError):
        return ()


def _arrow_columns(root: RawRoot, file: RawFile) -> tuple[str, ...]:
    head = root.read_range(file.name, 0, HEAD_BYTES)
    try:
        if head[:6] == b"ARROW1":
            head = head[8:]
        return tuple(pa.ipc.read_schema(pa.BufferReader(head)).names)
    except (pa.ArrowException, OSError, ValueError):
        return ()
