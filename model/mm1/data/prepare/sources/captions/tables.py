"""Caption pairs in tables: parquet, Arrow (``save_to_disk`` of Hugging Face datasets), JSON rows, CSV and TSV.

Each row has a caption (or a list of them) and an image, which the row holds or names (:mod:`.image_cells`): img2dataset's
parquet, Hugging Face's ``to_parquet``, an imagefolder's ``metadata.jsonl``. A table that has addresses instead of images is
read if fetching is allowed. Columns are chosen by their names (:mod:`.roles`), or named by the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from mm1.data.prepare.files import parquet
from mm1.data.prepare.files.csv_rows import csv_columns, csv_rows
from mm1.data.prepare.files.fields import Fields, listed
from mm1.data.prepare.files.jsonl import json_rows
from mm1.data.prepare.files.raw import REMOTE, Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.roles import ROLES
from mm1.data.prepare.sources.captions.image_cells import image_of
from mm1.data.prepare.sources.captions.pairs import KEPT_FIELDS, captions_of, samples_of
from mm1.data.sample import Sample
from mm1.errors import DataError

FETCH_BATCH = 32
"""Images fetched together."""

Row = dict[str, Any]
Rows = Iterable[tuple[Any, Row | OddRow]]


class _Columns(NamedTuple):
    """Names of the columns of a table, or of the fields of a row; None if it has none."""

    caption: str | None
    image: str | None
    url: str | None


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a parquet or Arrow file.

    Raises:
        DataError: damaged, or without a column of captions, or one of images or addresses.
    """
    columns = _columns_of(file, parquet.columns_of(file))
    needed = [name for name in (columns.caption, columns.image) if name]
    optional = [*KEPT_FIELDS, *([columns.url] if columns.url else [])]
    return _items(file, parquet.rows(file, needed, optional), lambda _: columns, clean)


def read_csv(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a CSV or TSV file with a header.

    Raises:
        DataError: damaged, or without a column of captions, or one of images or addresses.
    """
    columns = _columns_of(file, csv_columns(file))
    return _items(file, csv_rows(file), lambda _: columns, clean)


def read_json(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read JSON rows: one object per line, or a list of them. Rows may differ in their fields.

    Raises:
        DataError: the file is damaged.
    """
    fields = Fields(file)
    return _items(file, json_rows(file), lambda row: _Columns(*(fields.choose(role, row) for role in _Columns._fields)), clean)


def _columns_of(file: RawInput, names: Sequence[str]) -> _Columns:
    """Choose the columns of a table.

    Raises:
        DataError: there is none of captions, or none of images; or the user named one that does not exist.
    """
    columns = f"its columns are {listed(names)}"
    for role in _Columns._fields:
        if role in file.columns and file.columns[role] not in names:
            raise DataError(f"{file.name}: no column {file.columns[role]!r} (named by columns for {role}); {columns}")
    fields = Fields(file)
    chosen = _Columns(*(fields.choose(role, names) for role in _Columns._fields))
    if chosen.image is None and (file.fetch is None or chosen.url is None):
        remedy = "download the images with remote=fetch or img2dataset" if chosen.url else _remedy(file, "image")
        raise DataError(f"{file.name}: no column with images ({', '.join(ROLES['image'][:5])}, ...); {columns}; {remedy}")
    if chosen.caption is None:
        known = ", ".join(ROLES["caption"])
        raise DataError(f"{file.name}: no column with captions ({known}); {columns}; {_remedy(file, 'caption')}")
    return chosen


def _remedy(file: RawInput, role: str) -> str:
    return f'name it with columns="{file.source}.{role}=NAME"'


def _items(file: RawInput, rows: Rows, columns_for: Callable[[Row], _Columns], clean: Clean) -> Iterator[Item]:
    images: dict[str, bytes] = {}

    def make(origin: str, row: Row) -> list[Sample]:
        columns = columns_for(row)
        if columns.caption is None:
            fields = f"the fields are {listed(row)}"
            raise OddRow("no_caption", f"expected a caption; {fields}; {_remedy(file, 'caption')}")
        captions = captions_of(row.get(columns.caption), columns.caption)
        address = _address(row, columns)
        if address in images:
            image = images[address]
        else:
            image = image_of(file, row.get(columns.image), columns.image) if columns.image else b""
        return samples_of(file, origin, image, captions, row, clean)

    if file.fetch is None:
        yield from read_rows(file, rows, make)
        return
    remaining = iter(rows)
    while batch := list(islice(remaining, FETCH_BATCH)):
        addresses = (_address(row, columns_for(row)) for _, row in batch if not isinstance(row, OddRow))
        images.update(_fetch(file, [address for address in addresses if address]))
        yield from read_rows(file, batch, make)
        images.clear()


def _address(row: Row, columns: _Columns) -> str:
    """Return the address of a row's image; empty if the row holds the image, or names a file."""
    value = row.get(columns.image or columns.url or "")
    text = value.strip() if isinstance(value, str) else ""
    return text if REMOTE.match(text) else ""


def _fetch(file: RawInput, addresses: Sequence[str]) -> dict[str, bytes]:
    """Fetch images, at the same time if the fetcher can: address -> image, empty on failure."""
    assert file.fetch is not None
    fetch_many = getattr(file.fetch, "fetch_many", None)
    if fetch_many is not None:
        return dict(fetch_many(addresses))
    return {address: file.fetch(address) for address in dict.fromkeys(addresses)}
