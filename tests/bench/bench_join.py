"""Join of duplicates over synthetic signatures: ``python tests/bench/bench_join.py --rows 1e7 --parts 100 --gigabytes 2``.

5 % of the samples are exact duplicates and 5 % near duplicates of samples of the first part. Signatures take about 240 bytes a
sample on disk; the folder also holds what the join spills. ``--plain-minhash`` writes the same MinHash for all samples, which
takes 90 bytes a sample and the same time in the joins.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1 import machine
from mm1.data.config import preset_named
from mm1.data.prepare import duplicates
from mm1.data.prepare.signatures import PERMUTATIONS, ROW_GROUP, best_bands, schema

PRESET = preset_named("paper").text
SCHEMA = schema(PRESET.near_duplicates)
NUM_BANDS = best_bands(PRESET.near_duplicates.similarity)[0] if PRESET.near_duplicates else 0
POSSIBLE = 1 << 64


def write_signatures(folder: Path, rows: int, parts: int, plain_minhash: bool) -> list[Path]:
    """Write the parts."""
    random = np.random.default_rng(0)
    count, paths = rows // parts, []
    copies = count // 20
    first = None
    for number in range(parts):
        exact = random.integers(0, POSSIBLE, (count, 2), np.uint64)
        bands = random.integers(0, POSSIBLE, (NUM_BANDS, count), np.uint64)
        minhash = np.zeros((count, PERMUTATIONS), np.uint8)
        if not plain_minhash:
            minhash = random.integers(0, 256, (count, PERMUTATIONS), np.uint8)
        if first is None:
            first = exact, bands, minhash
        else:
            rows_of = random.integers(0, count, 2 * copies)
            exact[:copies] = first[0][rows_of[:copies]]
            bands[:, : 2 * copies] = first[1][:, rows_of]
            minhash[: 2 * copies] = first[2][rows_of]
            half = slice(NUM_BANDS // 2, None)
            bands[half, copies : 2 * copies] = random.integers(0, POSSIBLE, bands[half, copies : 2 * copies].shape, np.uint64)
        empty = pa.array([[]] * count, pa.list_(pa.uint64()))
        columns = {
            "number": np.full(count, number, np.int32),
            "row": np.arange(count, dtype=np.int32),
            "exact_high": exact[:, 0],
            "exact_low": exact[:, 1],
            "images": empty,
            "thumbnails": pa.array([b""] * count, pa.binary()),
            "minhash": pa.Array.from_buffers(pa.binary(PERMUTATIONS), count, [None, pa.py_buffer(minhash.tobytes())]),
            "words": np.full(count, 300, np.int32),
            "sides": np.zeros(count),
            "english": np.ones(count, bool),
            "other_language": np.zeros(count, bool),
            **{f"band_{band}": values for band, values in enumerate(bands)},
        }
        paths.append(folder / f"{number:05d}.parquet")
        with pq.ParquetWriter(paths[-1], SCHEMA, compression="zstd") as writer:
            writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=ROW_GROUP)
    return paths


def main() -> None:
    """Write signatures, join them, and print time, memory and disk space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="memory of the joins; threads and reading take more")
    parser.add_argument("--folder", default=None)
    parser.add_argument("--plain-minhash", action="store_true")
    options = parser.parse_args()
    duplicates.MIN_MEMORY_BYTES = 1
    machine.memory_bytes = lambda: int(options.gigabytes * 1e9 / duplicates.MEMORY_SHARE)
    with tempfile.TemporaryDirectory(prefix="mm1-bench-", dir=options.folder) as name:
        signatures, work = Path(name) / "signatures", Path(name) / "work"
        signatures.mkdir()
        paths = write_signatures(signatures, int(options.rows), options.parts, options.plain_minhash)
        print(f"{sum(path.stat().st_size for path in paths) / 1e9:.2f} GB of signatures", flush=True)
        spilled = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                sizes = [path.stat().st_size for path in work.glob("duckdb/*") if path.exists()]
                spilled[0] = max(spilled[0], sum(sizes))

        threading.Thread(target=watch, daemon=True).start()
        started = time.perf_counter()
        drops = duplicates.write_drops(paths, PRESET, work)
        seconds = time.perf_counter() - started
        done.set()
        count = sum(pq.read_metadata(path).num_rows for path in drops.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{options.rows:.0e} samples in {options.parts} parts: {seconds:.1f} s on {machine.cores()} cores, "
        f"{count:,} drops, {memory:.1f} GB of memory, {spilled[0] / 1e9:.1f} GB spilled"
    )


if __name__ == "__main__":
    main()
