"""Rows of tables: parquet, and Arrow files or streams (``data-*.arrow`` of ``save_to_disk`` in Hugging Face datasets).

A row is numbered from 1. Rows are read in batches of a few megabytes. Only the needed columns are read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.prepare.files.raw import OddRow, RawInput, row_too_large
from mm1.data.prepare.locations.roots import RawRoot
from mm1.errors import DataError
from mm1.manifests import RawFile

BATCH_BYTES = 16 << 20
"""Aim for the size of a batch of rows."""
MAX_BATCH = 256
"""Maximum number of rows in a batch."""
_BUFFER_BYTES = 1 << 20
_SMALL_GROUP = 1 << 20
_MAX_EXPANSION = 100
"""A row group that is this many times larger than its file is a bomb."""
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_UNREADABLE = (ValueError, TypeError, OverflowError, KeyError, NotImplementedError, ImportError, pa.ArrowException)
"""Exceptions of pyarrow on values that have no equivalent in Python (a date in the year 20000)."""
_FOOTER_BYTES = 1 << 16
_PARQUET = (b"PAR1", b"PARE")
_ARROW_FILE, _STREAM_END = b"ARROW1", b"\xff\xff\xff\xff\0\0\0\0"

Row = dict[str, Any] | OddRow


def rows(file: RawInput, needed: Iterable[str], optional: Iterable[str] = ()) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a table, or of its range of row groups or batches, with their numbers.

    Args:
        file: the file.
        needed: columns that it must have.
        optional: columns that are read if it has them.

    Raises:
        DataError: not a table, damaged, or without a needed column.
    """
    names = columns_of(file)
    for name in needed:
        if name not in names:
            raise DataError(f"{file.name}: no column {name!r}; its columns are {', '.join(names)}")
    columns = list(dict.fromkeys(name for name in (*needed, *optional) if name in names))
    number = 0
    with _damage_named(file, lambda: number):
        read = _parquet_batches if _is_parquet(file.path) else _arrow_batches
        for first, batch in read(file, columns):
            for number, row in enumerate(_rows_of(batch, file.max_row_bytes), start=first):
                yield number, row


def columns_of(file: RawInput) -> list[str]:
    """Read the column names of a table.

    Raises:
        DataError: not a table.
    """
    with _damage_named(file, lambda: 0):
        if _is_parquet(file.path):
            return list(pq.read_schema(file.path).names)
        with _arrow(file.path) as reader:
            return list(reader.schema.names)


def split(root: RawRoot, file: RawFile, target_bytes: int) -> list[RawFile]:
    """Split a table into ranges of about some bytes: row groups of a parquet file, batches of an Arrow file.

    Arrow files in a bucket are not split, since they have to be read for that.
    """
    if file.num_bytes <= target_bytes:
        return [file]
    is_parquet = root.read_range(file.name, 0, 4) in _PARQUET
    if not is_parquet and not root.is_local(file.name):
        return [file]
    try:
        sizes = _group_sizes(root, file) if is_parquet else _batch_sizes(root.local(file.name))
    except _DAMAGE:
        return [file]  # reading it names the damage
    ranges: list[list[int]] = []
    size = 0
    for index, group in enumerate(sizes):
        if not ranges or size + group > target_bytes:
            ranges.append([index, index, 0])
            size = 0
        size += group
        ranges[-1][1:] = [index + 1, size]
    if len(ranges) < 2:
        return [file]
    ranges[-1][2] = max(0, file.num_bytes - sum(size for _, _, size in ranges[:-1]))
    return [file.model_copy(update={"start": start, "stop": stop, "num_bytes": size}) for start, stop, size in ranges]


def read_footer(root: RawRoot, file: RawFile) -> pq.FileMetaData:
    """Read the metadata of a parquet file without the rest of it.

    Raises:
        ArrowException: it is damaged.
    """
    size = min(file.num_bytes, _FOOTER_BYTES)
    tail = root.read_range(file.name, file.num_bytes - size, size)
    footer = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < footer <= file.num_bytes:
        tail = root.read_range(file.name, file.num_bytes - footer, footer)
    return pq.read_metadata(io.BytesIO(b"PAR1" + tail[-footer:]))  # a file without its data has the same metadata


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(6).startswith((*_PARQUET, _ARROW_FILE, _STREAM_END[:4]))


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in _PARQUET


@contextmanager
def _damage_named(file: RawInput, number: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].replace(str(file.path), file.name)
        where = f" after row {number()}" if number() else ""
        raise DataError(f"{file.name}: damaged{where}, or not a valid parquet or Arrow file ({reason[:300]})") from None


# -- parquet ------------------------------------------------------------------------------------------------------------


def _parquet_batches(file: RawInput, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch | int]]:
    """Yield the number of the first row of each batch, and the batch (or its length if its rows are too large to be read)."""
    with pq.ParquetFile(file.path, buffer_size=_BUFFER_BYTES) as parquet:
        metadata = parquet.metadata
        groups = range(metadata.num_row_groups)[file.file.start : file.file.stop]
        num_rows = max(1, sum(metadata.row_group(group).num_rows for group in groups))
        start = first = 1 + sum(metadata.row_group(group).num_rows for group in range(groups.start))
        for group in groups:
            size = _batch_size(file, metadata.row_group(group), columns)
            batches = (
                parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False) if size else ()
            )
            for batch in batches or (metadata.row_group(group).num_rows,):
                yield first, batch
                first += batch if isinstance(batch, int) else batch.num_rows
                file.num_done = file.file.num_bytes * (first - start) // num_rows


def _batch_size(file: RawInput, group: pq.RowGroupMetaData, columns: list[str]) -> int:
    """Choose the number of rows per batch; 0 if the rows of a group are too large to be read.

    A group may hold large rows next to small ones. They are in memory together while their page is decompressed, so a group
    that expands more than any data is refused as a whole.
    """
    num_bytes, limit = group.total_byte_size, 4 * file.max_row_bytes
    if num_bytes <= _SMALL_GROUP:  # the sizes of columns are not read without need: a damaged footer may crash pyarrow there
        return max(1, min(MAX_BATCH, BATCH_BYTES // max(1, num_bytes // max(1, group.num_rows))))
    chunks = [group.column(index) for index in range(group.num_columns)]
    chunks = [chunk for chunk in chunks if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns)]
    num_bytes = sum(chunk.total_uncompressed_size + 8 * chunk.num_values for chunk in chunks)
    average = num_bytes // max(1, group.num_rows)
    if num_bytes > limit and (average > file.max_row_bytes or num_bytes > _MAX_EXPANSION * file.path.stat().st_size):
        return 0
    shared = max((_dictionary_bytes(file.path, chunk) for chunk in chunks), default=0)
    return max(1, min(MAX_BATCH, BATCH_BYTES // max(1, average), limit // max(1, shared)))


def _dictionary_bytes(path: Path, chunk: pq.ColumnChunkMetaData) -> int:
    """Read the size of a column's dictionary, of which each row may repeat a value as large as all of it."""
    if not chunk.has_dictionary_page:
        return 0
    with path.open("rb") as stream:
        stream.seek(chunk.dictionary_page_offset)
        header = stream.read(16)
    # Thrift's compact protocol: the header's first fields are the type of the page and its uncompressed size
    match = re.match(rb"\x15[\x80-\xff]*[\0-\x7f]\x15([\x80-\xff]*[\0-\x7f])", header, re.DOTALL)
    if match is None:
        return int(chunk.total_uncompressed_size)
    return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(match[1])) >> 1


def _group_sizes(root: RawRoot, file: RawFile) -> list[int]:
    """Estimate the sizes of the row groups in a file."""
    metadata = read_footer(root, file)
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    return [size * file.num_bytes // max(1, sum(sizes)) for size in sizes]


# -- arrow --------------------------------------------------------------------------------------------------------------


@contextmanager
def _arrow(path: Path) -> Iterator[Any]:
    """Open an Arrow file or stream."""
    with path.open("rb") as stream:
        is_file = stream.read(6) == _ARROW_FILE
        stream.seek(max(0, path.stat().st_size - len(_STREAM_END)))
        if not is_file and stream.read() != _STREAM_END:
            raise pa.ArrowInvalid("truncated: no end mark")
    with pa.OSFile(str(path)) as source:
        yield pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _arrow_batches(file: RawInput, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch | int]]:
    """Yield the number of the first row of each batch, and the batch."""
    start, first = file.file.start, 1
    with _arrow(file.path) as reader:
        is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else iter(reader)
        for index, batch in enumerate(batches):
            if file.file.stop is not None and index >= file.file.stop:
                break
            if index >= start:
                batch.validate()
                yield first, batch.select(columns)
                file.num_done = min(file.file.num_bytes, file.num_done + batch.nbytes)
            first += batch.num_rows
    file.num_done = file.file.num_bytes


def _batch_sizes(path: Path) -> list[int]:
    with _arrow(path) as reader:
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            return [path.stat().st_size // max(1, reader.num_record_batches)] * reader.num_record_batches
    with pa.memory_map(str(path)) as source:
        messages = pa.ipc.MessageReader.open_stream(source)
        return [message.body.size for message in messages if message.type == "record batch"]


# -- rows ---------------------------------------------------------------------------------------------------------------


def _rows_of(batch: pa.RecordBatch | int, max_row_bytes: int) -> Iterator[Row]:
    """Yield the rows of a batch; what cannot be read of it becomes odd rows."""
    if isinstance(batch, int):
        for _ in range(batch):
            yield row_too_large(max_row_bytes)
        return
    is_valid = _is_valid(batch)
    size = max(1, min(MAX_BATCH, BATCH_BYTES * batch.num_rows // max(1, batch.nbytes))) if is_valid else MAX_BATCH
    for start in range(0, batch.num_rows, size):
        piece = batch.slice(start, size)
        converted = _converted(piece) if is_valid and piece.nbytes <= max_row_bytes else None
        if isinstance(converted, list):
            yield from converted
            continue
        for index in range(piece.num_rows):
            yield _row(piece.slice(index, 1), max_row_bytes)


def _is_valid(batch: pa.RecordBatch) -> bool:
    """Check all offsets and texts; those of a damaged Arrow file may point anywhere."""
    try:
        batch.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def _row(row: pa.RecordBatch, max_row_bytes: int) -> Row:
    """Convert a batch of one row."""
    try:
        row.validate(full=True)
        plain = (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in row.columns)
        if sum(column.nbytes for column in plain) > max_row_bytes:
            return row_too_large(max_row_bytes)
    except _UNREADABLE as error:
        return _unreadable(row, error)
    converted = _converted(row)
    return converted if isinstance(converted, OddRow) else converted[0]


def _converted(batch: pa.RecordBatch) -> list[dict[str, Any]] | OddRow:
    """Convert a valid batch to Python values, or return why it cannot be converted."""
    try:
        return list(batch.to_pylist())
    except _UNREADABLE as error:
        return _unreadable(batch, error)


def _unreadable(batch: pa.RecordBatch, error: Exception) -> OddRow:
    is_text = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
    columns = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in batch.schema)[:300]
    return OddRow("not_utf8" if is_text else "unreadable_row", f"{type(error).__name__} in a column of {columns}")
