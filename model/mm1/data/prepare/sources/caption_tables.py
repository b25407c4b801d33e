"""Caption pairs in tables: parquet, Arrow (``save_to_disk`` of Hugging Face datasets), JSON rows, CSV and TSV.

Each row has a caption (or a list of them) and an image, which the row holds or names (:mod:`.image_cells`): img2dataset's
parquet, Hugging Face's ``to_parquet``, an imagefolder's ``metadata.jsonl``. A table that has addresses instead of images is
read if fetching is allowed. Columns are chosen by their names (:mod:`.roles`), or named by the user.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from mm1.data.prepare.sources import parquet
from mm1.data.prepare.sources.caption_pairs import KEPT_FIELDS, captions_of, samples_of
from mm1.data.prepare.sources.csv_rows import csv_columns, csv_rows
from mm1.data.prepare.sources.image_cells import image_of
from mm1.data.prepare.sources.jsonl import json_rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.sources.roles import ROLES, column_for
from mm1.data.prepare.sources.values import as_text
from mm1.data.sample import Sample
from mm1.errors import DataError

log = logging.getLogger(__name__)
FETCH_BATCH = 64
"""Images fetched together."""

Row = dict[str, Any]
Rows = Iterable[tuple[Any, Row | OddRow]]


class _Columns(NamedTuple):
    caption: str
    image: str | None
    """None if images are fetched."""
    url: str | None


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a parquet or Arrow file.

    Raises:
        DataError: damaged, or without a column of captions, or one of images or addresses.
    """
    columns = _columns_of(file, parquet.columns_of(file))
    needed = [name for name in (columns.caption, columns.image) if name]
    optional = [*KEPT_FIELDS, *([columns.url] if columns.url else [])]
    return _items(file, parquet.rows(file, tuple(needed), tuple(optional)), columns, clean)


def read_csv(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a CSV or TSV file with a header.

    Raises:
        DataError: damaged, or without a column of captions, or one of images or addresses.
    """
    return _items(file, csv_rows(file), _columns_of(file, csv_columns(file)), clean)


def read_json(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read JSON rows: one object per line, or a list of them. The fields are those of the first row.

    Raises:
        DataError: damaged, or without a field of captions, or one of images or addresses.
    """
    rows = iter(json_rows(file))
    head: list[tuple[Any, Row | OddRow]] = []
    for number, row in rows:
        head.append((number, row))
        if not isinstance(row, OddRow):
            yield from _items(file, _chain(head, rows), _columns_of(file, row, "field"), clean)
            return
    yield from read_rows(file, head, lambda origin, row: ())


def _chain(head: Rows, rows: Rows) -> Iterator[tuple[Any, Row | OddRow]]:
    yield from head
    yield from rows


def _columns_of(file: RawInput, names: Iterable[str], word: str = "column") -> _Columns:
    """Choose the columns.

    Raises:
        DataError: there is none of captions, or none of images; or the user named one that does not exist.
    """
    names = list(names)
    listed = f"its {word}s are {', '.join(names)}"
    for role in ("caption", "image", "url"):
        if role in file.columns and file.columns[role] not in names:
            raise DataError(f"{file.name}: no {word} {file.columns[role]!r} (named by columns for {role}); {listed}")
    chosen = {role: column_for(role, names, file.columns) for role in ("caption", "image", "url")}
    if chosen["image"] is None and (file.fetch is None or chosen["url"] is None):
        advice = "; download the images with remote=fetch or img2dataset" if chosen["url"] else _advice(file, "image")
        raise DataError(f"{file.name}: no {word} with images ({', '.join(ROLES['image'][:5])}, ...); {listed}{advice}")
    if chosen["caption"] is None:
        raise DataError(
            f"{file.name}: no {word} with captions ({', '.join(ROLES['caption'])}); {listed}{_advice(file, 'caption')}"
        )
    log.info("%s: captions from %s %r, images from %r", file.name, word, chosen["caption"], chosen["image"] or chosen["url"])
    return _Columns(chosen["caption"], chosen["image"], chosen["url"])


def _advice(file: RawInput, role: str) -> str:
    return f'; name it with columns="{file.source}.{role}=NAME"'


def _items(file: RawInput, rows: Rows, columns: _Columns, clean: Clean) -> Iterator[Item]:
    if columns.image is None:
        yield from _fetched_items(file, rows, columns, clean)
        return
    name = columns.image

    def make(origin: str, row: Row) -> list[Sample]:
        _check(row, columns)
        return _samples(file, origin, image_of(file, row.get(name), name), row, columns, clean)

    yield from read_rows(file, rows, make)


def _fetched_items(file: RawInput, rows: Rows, columns: _Columns, clean: Clean) -> Iterator[Item]:
    """Fetch the images of a few rows at a time."""
    assert columns.url is not None
    remaining = iter(rows)
    while batch := list(islice(remaining, FETCH_BATCH)):
        addresses = [address for _, row in batch if not isinstance(row, OddRow) and (address := as_text(row.get(columns.url)))]
        images = fetch_images(file, addresses)

        def make(origin: str, row: Row, images: dict[str, bytes] = images) -> list[Sample]:
            _check(row, columns)
            return _samples(file, origin, images.get(as_text(row.get(columns.url or "")) or "", b""), row, columns, clean)

        yield from read_rows(file, batch, make)


def fetch_images(file: RawInput, addresses: Sequence[str]) -> dict[str, bytes]:
    """Fetch images: address -> image, empty on failure."""
    assert file.fetch is not None
    many = getattr(file.fetch, "fetch_many", None)
    if many is not None:
        return dict(many(addresses))
    return {address: file.fetch(address) for address in dict.fromkeys(addresses)}


def _check(row: Row, columns: _Columns) -> None:
    if columns.caption not in row:
        raise OddRow("no_caption", f"no field {columns.caption!r}; the fields are {', '.join(row)[:200]}")


def _samples(file: RawInput, origin: str, image: bytes, row: Row, columns: _Columns, clean: Clean) -> list[Sample]:
    return samples_of(file, origin, image, captions_of(row[columns.caption], columns.caption), row, clean)
