"""Writers of the formats that people use, with the tools of those formats. A file appears when it is complete."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from PIL import Image
from webdataset import ShardWriter

from .pages import Page
from .pictures import Pair

SHARD_PAIRS = 1000
"""Pairs per tar."""
ROW_GROUP = 100
_HUB_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An image as Hugging Face ``datasets`` writes it."""


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Give the path of a file or folder to write, which is renamed at the end."""
    part = path.with_name(f"{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was interrupted; a file is overwritten
    path.parent.mkdir(parents=True, exist_ok=True)
    yield part
    part.rename(path)


def write_tars(pairs: Iterable[Pair], folder: Path) -> None:
    """Write a folder as img2dataset does: per 1,000 pairs a tar, a parquet file of its rows without pictures, and counts."""
    with complete(folder) as part:
        part.mkdir()
        rows: list[dict[str, Any]] = []
        with ShardWriter(str(part / "%05d.tar"), maxcount=SHARD_PAIRS, verbose=0) as writer:
            for number, pair in enumerate(pairs):
                key = f"{number // SHARD_PAIRS:05d}{number % SHARD_PAIRS:04d}"
                row = _row(key, pair)
                rows.append(row)
                writer.write({"__key__": key, "png": pair.png, "txt": pair.drawing.caption, "json": row})
        for shard, some in enumerate(_groups(rows, SHARD_PAIRS)):
            pq.write_table(pa.Table.from_pylist(some), part / f"{shard:05d}.parquet")
            stats = {"count": len(some), "successes": len(some), "failed_to_download": 0, "failed_to_resize": 0}
            (part / f"{shard:05d}_stats.json").write_text(json.dumps(stats, indent=4))


def _row(key: str, pair: Pair) -> dict[str, Any]:
    with Image.open(io.BytesIO(pair.png)) as image:
        width, height = image.size
    return {
        "url": f"debian:{pair.drawing.name}",
        "caption": pair.drawing.caption,
        "topic": pair.drawing.topic,
        "key": key,
        "status": "success",
        "error_message": None,
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(pair.png).hexdigest(),
    }


def write_hub_parquet(pairs: Iterable[Pair], file: Path) -> None:
    """Write the parquet file of a data set on the Hugging Face hub, with the features that its viewer and ``datasets`` read."""
    text = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "caption": text, "topic": text}
    schema = pa.schema([("image", _HUB_IMAGE), ("caption", pa.string()), ("topic", pa.string())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = (
        {
            "image": {"bytes": pair.png, "path": f"{Path(pair.drawing.name).stem}.png"},
            "caption": pair.drawing.caption,
            "topic": pair.drawing.topic,
        }
        for pair in pairs
    )
    _write_parquet(rows, schema, file)


def write_pages(pages: Iterable[Page], folder: Path, file: Path, inside: bool) -> None:
    """Write pages as OBELICS: the images' bytes in a column, or the images in a folder next to the parquet file.

    Args:
        pages: pages with images.
        folder: the folder of the pages.
        file: the parquet file.
        inside: whether the parquet file holds the images.
    """
    strings = pa.list_(pa.string())
    columns = [("images", strings), ("texts", strings), ("general_metadata", pa.string())]
    schema = pa.schema([*columns, ("image_bytes", pa.list_(pa.binary()))] if inside else columns)

    def rows() -> Iterator[dict[str, Any]]:
        for page in pages:
            metadata = json.dumps({"url": f"debian:{page.name}", "title": page.title})
            row: dict[str, Any] = {"images": page.images, "texts": page.texts, "general_metadata": metadata}
            if inside:
                row["image_bytes"] = [(folder / name).read_bytes() if name else None for name in page.images]
            else:
                for name in filter(None, page.images):
                    (file.parent / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / name, file.parent / name)
            yield row

    _write_parquet(rows(), schema, file)


def write_pages_of(pages: Iterable[tuple[str, str, list[bytes | None], list[str | None]]], file: Path) -> None:
    """Write pages that have no files as OBELICS, with the images' bytes in a column.

    Args:
        pages: name, title, images and texts of each page; at each position one of the two is None.
        file: the parquet file.
    """
    strings = pa.list_(pa.string())
    columns = [
        ("images", strings),
        ("texts", strings),
        ("general_metadata", pa.string()),
        ("image_bytes", pa.list_(pa.binary())),
    ]

    def rows() -> Iterator[dict[str, Any]]:
        for name, title, images, texts in pages:
            names = [f"{name}/{number}.png" if image else None for number, image in enumerate(images)]
            metadata = json.dumps({"url": f"debian:{name}", "title": title})
            yield {"images": names, "texts": texts, "general_metadata": metadata, "image_bytes": images}

    _write_parquet(rows(), pa.schema(columns), file)


def write_texts(pages: Iterable[Page], file: Path) -> None:
    """Write the texts of pages as JSON lines, compressed with zstd."""
    with complete(file) as part, zstandard.open(part, "wt", encoding="utf-8") as stream:
        for page in pages:
            text = "\n\n".join(text for text in page.texts if text)
            row = {"text": text, "meta": {"url": f"debian:{page.name}", "title": page.title}}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(rows: Iterable[dict[str, Any]], schema: pa.Schema, file: Path) -> None:
    with complete(file) as part, pq.ParquetWriter(part, schema) as writer:
        for group in _groups(rows, ROW_GROUP):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _groups(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while group := list(islice(iterator, size)):
        yield group
