"""Deduplication over all parts of a source: joins over signatures decide which samples and images to drop.

    signatures of all parts (parquet) -> DuckDB: exact, near, repeated images -> a table of drops per part

Exact and near duplicates are compared by image and text together, if a sample has both. Of equal samples, the first one in the
order of parts and rows is kept. A near duplicate shares MinHash bands of its text with an earlier sample. It is compared with
the first sample of each of its buckets (so the cost grows with the samples, not with their pairs), and is dropped if texts and
images are similar, whether or not the earlier sample is kept. The result does not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.config import FilterPreset
from mm1.data.prepare.signatures import PERMUTATIONS

DUPLICATE, NEAR, REPEATED = "duplicate", "near_duplicate", "image_repeated"
MEMORY_LIMIT = "1GB"
"""Memory limit of the joins before they spill to disk."""
PAIR_BATCH = 20_000
WHOLE_SAMPLE = -1
"""Used instead of an image index: drop the whole sample."""
SCHEMA = pa.schema([("row", pa.int32()), ("image", pa.int32()), ("reason", pa.string()), ("origin", pa.string())])

_EXACT = """
    SELECT number, row, origin FROM (
        SELECT number, row, origin, row_number() OVER (PARTITION BY exact ORDER BY number, row) AS occurrence FROM signatures
    ) WHERE occurrence > 1 ORDER BY number, row
"""
_REPEATED = """
    WITH occurrences AS (
        SELECT number, row, origin, unnest(images) AS image, generate_subscripts(images, 1) - 1 AS image_index FROM signatures
    )
    SELECT number, row, image_index, origin FROM occurrences
    WHERE image IN (SELECT image FROM occurrences GROUP BY image HAVING count(*) > ?) ORDER BY number, row, image_index
"""
_PAIRS = """
    WITH unique_samples AS (SELECT * FROM signatures WHERE (number, row) NOT IN (SELECT (number, row) FROM exact_duplicates)),
    banded AS (SELECT number, row, unnest(bands) AS band FROM unique_samples),
    firsts AS (SELECT band, min((number::BIGINT << 32) | row) AS first FROM banded GROUP BY band HAVING count(*) > 1),
    pairs AS (
        SELECT DISTINCT banded.number, banded.row, firsts.first FROM banded JOIN firsts USING (band)
        WHERE ((banded.number::BIGINT << 32) | banded.row) > firsts.first
    )
    SELECT b.number, b.row, b.origin, a.minhash AS earlier, b.minhash AS later
    FROM pairs JOIN signatures AS b USING (number, row)
    JOIN signatures AS a ON ((a.number::BIGINT << 32) | a.row) = pairs.first
    WHERE len(a.hashes) = len(b.hashes) AND coalesce(list_max(list_transform(
        generate_series(1, len(a.hashes)), lambda i: bit_count(xor(a.hashes[i], b.hashes[i]))::INTEGER)), 0) <= ?
    ORDER BY b.number, b.row
"""


class Drop(NamedTuple):
    """A sample, or an image of one, to be dropped."""

    number: int
    row: int
    image: int
    """-1 for the whole sample."""
    reason: str
    origin: str


def find_drops(signatures: Sequence[Path], preset: FilterPreset, work: Path) -> list[Drop]:
    """Find the samples and images of a source to be dropped.

    Args:
        signatures: parquet files of all its parts.
        preset: the deduplication settings.
        work: scratch folder for joins that do not fit into memory.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET temp_directory = $folder", {"folder": str(work / "duckdb")})
        connection.read_parquet([str(path) for path in signatures]).create_view("signatures")
        drops: list[Drop] = []
        if preset.drop_duplicates:
            rows = connection.execute(_EXACT).fetchall()
            drops += [Drop(number, row, WHOLE_SAMPLE, DUPLICATE, origin) for number, row, origin in rows]
        if preset.near_duplicates is not None:
            connection.execute("CREATE TABLE exact_duplicates (number INTEGER, row INTEGER)")
            if drops:
                rows = pa.table({"number": [drop.number for drop in drops], "row": [drop.row for drop in drops]})
                connection.register("exact_rows", rows)
                connection.execute("INSERT INTO exact_duplicates SELECT * FROM exact_rows")
            drops += _near(connection, preset.near_duplicates.similarity, preset.near_duplicates.image_distance)
        if preset.image.max_repeats is not None:
            rows = connection.execute(_REPEATED, [preset.image.max_repeats]).fetchall()
            drops += [Drop(number, row, image, REPEATED, origin) for number, row, image, origin in rows]
    return sorted(drops)


def _near(connection: Any, similarity: float, distance: int) -> list[Drop]:
    """Find pairs that share a band and have a large enough fraction of equal MinHash values."""
    drops: dict[tuple[int, int], Drop] = {}
    reader = connection.sql(_PAIRS, params=[distance]).to_arrow_reader(PAIR_BATCH)
    for batch in reader:
        earlier, later = (_matrix(batch.column(name)) for name in ("earlier", "later"))
        similar = (earlier == later).mean(axis=1) >= similarity
        for index in np.flatnonzero(similar).tolist():
            number, row = batch.column("number")[index].as_py(), batch.column("row")[index].as_py()
            drops[number, row] = Drop(number, row, WHOLE_SAMPLE, NEAR, batch.column("origin")[index].as_py())
    return [*drops.values()]


def _matrix(column: Any) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the MinHash values as a matrix (pairs, permutations)."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint32).reshape(-1, PERMUTATIONS)


def write_drops(drops: Sequence[Drop], path: Path) -> Path:
    """Write the drops of one part to parquet."""
    rows = [{"row": drop.row, "image": drop.image, "reason": drop.reason, "origin": drop.origin} for drop in sorted(drops)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    return path


def read_drops(path: Path) -> dict[int, dict[int, tuple[str, str]]]:
    """Read drops as: row -> image (-1 for the whole sample) -> reason and origin."""
    drops: dict[int, dict[int, tuple[str, str]]] = {}
    for row in pq.read_table(path).to_pylist():
        drops.setdefault(row["row"], {})[row["image"]] = row["reason"], row["origin"]
    return drops
