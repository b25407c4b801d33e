"""Deduplication over all parts of a source: joins over signatures decide which samples and images to drop.

    signatures of all parts (parquet) -> DuckDB: exact, near, repeated images -> drops, one parquet file per part

Exact and near duplicates are compared by image and text together, if a sample has both. Of equal samples, the first one in the
order of parts and rows is kept. A near duplicate shares MinHash bands of its text with an earlier sample. It is compared with
the first sample of each of its buckets (so the cost grows with the samples, not with their pairs), and is dropped if texts and
images are similar, whether or not the earlier sample is kept. The result does not depend on the number of processes.

The joins use as much memory as the machine or container allows, and spill to disk. Signatures are read column by column, once
per band, and drops are written part by part, so memory does not grow with the number of parts or drops.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mm1 import machine
from mm1.data.config import NearDuplicates, SourcePreset
from mm1.data.images import THUMBNAIL_BYTES, are_near
from mm1.data.prepare.signatures import PERMUTATIONS, best_bands
from mm1.errors import OutOfMemory

DUPLICATE, NEAR, REPEATED = "duplicate", "near_duplicate", "image_repeated"
MEMORY_SHARE = 0.6
"""Fraction of the available memory for the joins; the rest is for reading, results and other processes."""
MIN_MEMORY_BYTES = 1_000_000_000
BATCH = 20_000
"""Candidates compared, and drops written, at a time."""
WHOLE_SAMPLE = -1
"""Used instead of an image index: drop the whole sample."""
SCHEMA = pa.schema([("row", pa.int32()), ("image", pa.int32()), ("reason", pa.string())])
_IMAGES = 5_000
"""Pairs of images compared at a time."""
EQUAL_BY_CHANCE = 1 / 256
"""Probability that the lowest bytes of two different MinHash values are equal."""

_TABLES = """
    CREATE TABLE drops (id BIGINT, image INTEGER, reason VARCHAR);
    CREATE TABLE pairs (id BIGINT, first BIGINT)
"""
_EXACT = f"""
    INSERT INTO drops SELECT id, {WHOLE_SAMPLE}, '{DUPLICATE}' FROM signatures JOIN (
        SELECT exact_high, exact_low, min(id) AS first FROM signatures GROUP BY ALL HAVING count(*) > 1
    ) USING (exact_high, exact_low) WHERE id > first
"""
_PAIRS = """
    INSERT INTO pairs SELECT id, first FROM signatures JOIN (
        SELECT {band}, min(id) AS first FROM signatures WHERE {band} IS NOT NULL GROUP BY {band} HAVING count(*) > 1
    ) USING ({band}) WHERE id > first AND id NOT IN (SELECT id FROM drops)
"""
_EARLIER = """
    CREATE TABLE earlier AS SELECT pairs.id, minhash, thumbnails FROM (SELECT DISTINCT id, first FROM pairs) AS pairs
    JOIN signatures ON signatures.id = pairs.first
"""
_CANDIDATES = """
    SELECT b.id, a.minhash AS earlier, b.minhash AS later, a.thumbnails AS earlier_images, b.thumbnails AS later_images
    FROM earlier AS a JOIN signatures AS b USING (id) WHERE octet_length(a.thumbnails) = octet_length(b.thumbnails)
"""
"""Joined in two steps: in one, the optimizer may pair all samples with as many images first."""
_REPEATED = f"""
    INSERT INTO drops SELECT id, image_index, '{REPEATED}' FROM (
        SELECT id, unnest(images) AS image, generate_subscripts(images, 1) - 1 AS image_index FROM signatures
    ) SEMI JOIN (
        SELECT image FROM (SELECT unnest(images) AS image FROM signatures) GROUP BY image HAVING count(*) > ?
    ) USING (image)
"""
_SORTED = """
    SELECT (id >> 32)::INTEGER AS number, (id & 4294967295)::INTEGER AS row, image, reason
    FROM drops ORDER BY id, image, reason
"""


def write_drops(signatures: Sequence[Path], preset: SourcePreset, work: Path) -> dict[int, Path]:
    """Find the samples and images of a source to be dropped; write them to parquet, one file per part.

    Args:
        signatures: parquet files of all its parts.
        preset: the deduplication settings.
        work: folder for the files, and for joins that do not fit into memory.

    Returns:
        Number of a part -> its drops; parts without drops are omitted.

    Raises:
        OutOfMemory: the joins do not fit into memory and the free space of ``work``.
    """
    import duckdb

    work.mkdir(parents=True, exist_ok=True)
    scratch = work / "duckdb"
    try:
        with duckdb.connect() as connection:
            _configure(connection, scratch)
            paths = [str(path) for path in signatures]
            view = connection.read_parquet(paths).project("(number::BIGINT << 32) | row AS id, * EXCLUDE (number, row)")
            view.create_view("signatures")
            connection.execute(_TABLES)
            if preset.drop_duplicates:
                connection.execute(_EXACT)
            if preset.near_duplicates is not None:
                _add_near(connection, preset.near_duplicates)
            if preset.image.max_repeats is not None:
                connection.execute(_REPEATED, [preset.image.max_repeats])
            return dict(_write_parts(connection.sql(_SORTED).to_arrow_reader(BATCH), work))
    except duckdb.OutOfMemoryException as error:
        free = shutil.disk_usage(work).free / 1e9
        raise OutOfMemory(
            f"the join of {len(signatures)} files of signatures needs more than this machine's memory and the {free:.0f} GB of "
            f"disk free in {work}: give the step more memory or disk ({str(error).partition(chr(10))[0]})"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _configure(connection: Any, scratch: Path) -> None:
    memory = max(MIN_MEMORY_BYTES, int(machine.memory_bytes() * MEMORY_SHARE))
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET threads = $threads", {"threads": machine.cores()})
    connection.execute("SET memory_limit = $limit", {"limit": f"{memory // 1_000_000}MB"})
    connection.execute("SET temp_directory = $folder", {"folder": str(scratch)})


def _add_near(connection: Any, near: NearDuplicates) -> None:
    """Add the samples that share a band with an earlier sample, if texts and images are similar."""
    for band in range(best_bands(near.similarity)[0]):
        connection.execute(_PAIRS.format(band=f"band_{band}"))
    connection.execute(_EARLIER)
    similar = []
    for batch in connection.sql(_CANDIDATES).to_arrow_reader(BATCH):
        earlier, later = (_matrix(batch.column(name)) for name in ("earlier", "later"))
        equal = (earlier == later).mean(axis=1)
        similarity = (equal - EQUAL_BY_CHANCE) / (1 - EQUAL_BY_CHANCE)
        batch = batch.filter(pa.array(similarity >= near.similarity))
        images = similar_images(batch.column("earlier_images"), batch.column("later_images"))
        similar.append(batch.column("id").filter(pa.array(images)))
    ids = pa.table({"id": pa.chunked_array(similar, pa.int64())})
    connection.register("similar_ids", ids)
    connection.execute(f"INSERT INTO drops SELECT DISTINCT id, {WHOLE_SAMPLE}, '{NEAR}' FROM similar_ids")


def _matrix(column: pa.Array) -> NDArray[np.uint8]:
    """Return the MinHash values as a matrix (pairs, permutations)."""
    values = pc.cast(column, pa.binary(PERMUTATIONS))
    start = values.offset * PERMUTATIONS
    return np.frombuffer(values.buffers()[1], np.uint8)[start : start + len(values) * PERMUTATIONS].reshape(-1, PERMUTATIONS)


def similar_images(earlier: pa.Array, later: pa.Array) -> NDArray[np.bool_]:
    """Compare the images of pairs of samples, in order.

    Args:
        earlier: all thumbnails of a sample, as binary values.
        later: the same for the other sample of each pair, which has as many images.

    Returns:
        Whether all images of a pair look the same, also without images (pairs).
    """
    counts = pc.binary_length(earlier).to_numpy(zero_copy_only=False) // THUMBNAIL_BYTES
    pairs = np.repeat(np.arange(len(counts)), counts)
    similar = np.ones(len(counts), np.bool_)
    for start in range(0, len(pairs), _IMAGES):
        part = slice(start, start + _IMAGES)
        different = ~are_near(_thumbnails(earlier)[part], _thumbnails(later)[part])
        similar[pairs[part][different]] = False
    return similar


def _thumbnails(column: pa.Array) -> NDArray[np.uint8]:
    """Return all thumbnails as a matrix (images, bytes), without a copy."""
    _, offsets, values = column.buffers()
    start, stop = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]].tolist()
    return np.frombuffer(values or b"", np.uint8)[start:stop].reshape(-1, THUMBNAIL_BYTES)


def _write_parts(batches: Iterator[pa.RecordBatch], work: Path) -> Iterator[tuple[int, Path]]:
    """Write drops, which are sorted by part, one file at a time."""
    for number, slices in groupby(_by_part(batches), key=itemgetter(0)):
        path = work / f"drops-{number:05d}.parquet"
        table = pa.Table.from_batches([rows for _, rows in slices]).combine_chunks()  # the bytes do not depend on batches
        pq.write_table(table, path, compression="zstd")
        yield number, path


def _by_part(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield each part's number with its rows, in one or several batches."""
    for batch in batches:
        numbers = batch.column("number").to_numpy()
        rows = batch.select(SCHEMA.names).cast(SCHEMA)
        bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        yield from ((int(numbers[start]), rows.slice(start, stop - start)) for start, stop in pairwise(bounds) if stop > start)


def read_drops(path: Path) -> dict[int, dict[int, str]]:
    """Read the drops of a part: row -> image (-1 for the whole sample) -> reason."""
    drops: dict[int, dict[int, str]] = {}
    for row in pq.read_table(path).to_pylist():
        drops.setdefault(row["row"], {})[row["image"]] = row["reason"]
    return drops
