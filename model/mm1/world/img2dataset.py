"""Shards of image-caption pairs in img2dataset's output format.

``00000.tar`` has ``<key>.jpg``, ``<key>.txt`` and ``<key>.json`` per pair, ``00000.parquet`` the JSON's columns, and
``00000_stats.json`` the counts. The field ``caption_kind`` in JSON and parquet is ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Pair(NamedTuple):
    """An encoded image, its caption and the caption's kind."""

    image: bytes
    caption: str
    kind: str


def _record(key: str, pair: Pair, side: int) -> dict[str, object]:
    """Create img2dataset's metadata of one pair."""
    return {
        "caption": pair.caption,
        "caption_kind": pair.kind,
        "url": f"https://toy-world.invalid/captions/{key}.jpg",
        "key": key,
        "status": "success",
        "error_message": None,
        "width": side,
        "height": side,
        "original_width": side,
        "original_height": side,
        "exif": "{}",
        "sha256": hashlib.sha256(pair.image).hexdigest(),
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("caption", "caption_kind", "url", "key", "status", "error_message")],
        *[(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")],
        *[(name, pa.string()) for name in ("exif", "sha256")],
    ]
)


def write_shard(folder: Path, shard: int, pairs: Sequence[Pair], side: int) -> None:
    """Write a shard: tar, parquet and statistics.

    Args:
        folder: output folder.
        shard: number of the shard.
        pairs: its pairs, at most 10,000.
        side: height and width of the images, in pixels.
    """
    name = f"{shard:05d}"
    records = []
    with tarfile.open(folder / f"{name}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, pair in enumerate(pairs):
            key = f"{name}{index:04d}"
            record = _record(key, pair, side)
            _add(tar, f"{key}.jpg", pair.image)
            _add(tar, f"{key}.txt", pair.caption.encode())
            _add(tar, f"{key}.json", json.dumps(record, sort_keys=True).encode())
            records.append(record)
    pq.write_table(pa.Table.from_pylist(records, schema=_SCHEMA), folder / f"{name}.parquet")
    count = len(pairs)
    # img2dataset also records start and end times; they are omitted here to keep the files byte-identical.
    failures = {"failed_to_download": 0, "failed_to_resize": 0}
    stats = {"count": count, "successes": count, **failures, "status_dict": {"success": count}}
    (folder / f"{name}_stats.json").write_text(json.dumps(stats, indent=4, sort_keys=True))
