"""Duplicates over all parts of a source: which samples and images go, decided by joins over their signatures.

    signatures of all parts (parquet) -> DuckDB: exact, near, repeated images -> a table of drops per part

Exact and near duplicates are judged by image and text together where there are both. Of equal samples the first stays, in the
order of parts and rows. A near duplicate has MinHash bands of its text in common with an earlier sample; it is compared with
the first sample of each of its buckets (so the work grows with the samples, not with their pairs), and goes when texts and
images are near, whether that earlier one itself stays or not. The outcome does not depend on how many did the work.
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
"""What the joins may take before they go through the disk."""
PAIRS_AT_ONCE = 20_000
WHOLE_SAMPLE = -1
"""In place of the number of an image: the sample as a whole goes."""
SCHEMA = pa.schema([("row", pa.int32()), ("image", pa.int32()), ("reason", pa.string()), ("origin", pa.string())])

_EXACT = """
    SELECT number, row, origin FROM (
        SELECT number, row, origin, row_number() OVER (PARTITION BY exact ORDER BY number, row) AS place FROM signatures
    ) WHERE place > 1 ORDER BY number, row
"""
_REPEATED = """
    WITH found AS (
        SELECT number, row, origin, unnest(images) AS image, generate_subscripts(images, 1) - 1 AS place FROM signatures
    )
    SELECT number, row, place, origin FROM found
    WHERE image IN (SELECT image FROM found GROUP BY image HAVING count(*) > ?) ORDER BY number, row, place
"""
_PAIRS = """
    WITH unique_ones AS (SELECT * FROM signatures WHERE (number, row) NOT IN (SELECT (number, row) FROM exact_ones)),
    placed AS (SELECT number, row, unnest(bands) AS band FROM unique_ones),
    firsts AS (SELECT band, min((number::BIGINT << 32) | row) AS first FROM placed GROUP BY band HAVING count(*) > 1),
    pairs AS (
        SELECT DISTINCT placed.number, placed.row, firsts.first FROM placed JOIN firsts USING (band)
        WHERE ((placed.number::BIGINT << 32) | placed.row) > firsts.first
    )
    SELECT b.number, b.row, b.origin, a.minhash AS one, b.minhash AS other
    FROM pairs JOIN signatures AS b USING (number, row)
    JOIN signatures AS a ON ((a.number::BIGINT << 32) | a.row) = pairs.first
    WHERE len(a.hashes) = len(b.hashes) AND coalesce(list_max(list_transform(
        generate_series(1, len(a.hashes)), lambda i: bit_count(xor(a.hashes[i], b.hashes[i]))::INTEGER)), 0) <= ?
    ORDER BY b.number, b.row
"""


class Drop(NamedTuple):
    """A sample, or an image of one, that goes."""

    number: int
    row: int
    image: int
    """-1 for the sample as a whole."""
    reason: str
    origin: str


def find_drops(signatures: Sequence[Path], preset: FilterPreset, work: Path) -> list[Drop]:
    """What goes of a source.

    Args:
        signatures: parquet files of all its parts.
        preset: says what is looked for.
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
            connection.execute("CREATE TABLE exact_ones (number INTEGER, row INTEGER)")
            if drops:
                rows = pa.table({"number": [drop.number for drop in drops], "row": [drop.row for drop in drops]})
                connection.register("exact_rows", rows)
                connection.execute("INSERT INTO exact_ones SELECT * FROM exact_rows")
            drops += _near(connection, preset.near_duplicates.similarity, preset.near_duplicates.image_distance)
        if preset.image.max_repeats is not None:
            rows = connection.execute(_REPEATED, [preset.image.max_repeats]).fetchall()
            drops += [Drop(number, row, place, REPEATED, origin) for number, row, place, origin in rows]
    return sorted(drops)


def _near(connection: Any, similarity: float, distance: int) -> list[Drop]:
    """Pairs that share a band, and whose signatures agree as often as texts of that similarity do."""
    found: dict[tuple[int, int], Drop] = {}
    reader = connection.sql(_PAIRS, params=[distance]).to_arrow_reader(PAIRS_AT_ONCE)
    for batch in reader:
        one, other = (_matrix(batch.column(name)) for name in ("one", "other"))
        alike = (one == other).mean(axis=1) >= similarity
        for place in np.flatnonzero(alike).tolist():
            number, row = batch.column("number")[place].as_py(), batch.column("row")[place].as_py()
            found[number, row] = Drop(number, row, WHOLE_SAMPLE, NEAR, batch.column("origin")[place].as_py())
    return [*found.values()]


def _matrix(column: Any) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """MinHash values (pairs, permutations)."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint32).reshape(-1, PERMUTATIONS)


def write_drops(drops: Sequence[Drop], path: Path) -> Path:
    """The drops of one part as parquet."""
    rows = [{"row": drop.row, "image": drop.image, "reason": drop.reason, "origin": drop.origin} for drop in sorted(drops)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    return path


def read_drops(path: Path) -> dict[int, dict[int, tuple[str, str]]]:
    """Row -> image (-1 for the whole sample) -> reason and origin."""
    found: dict[int, dict[int, tuple[str, str]]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["row"], {})[row["image"]] = row["reason"], row["origin"]
    return found
