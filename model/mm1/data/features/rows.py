"""Feature rows in the store: one immutable parquet file per view and event, named after its subject.

    features/shard_stats/<RawData digest>.parquet       written when the data are ingested
    features/shard_quality/<RawData digest>.parquet     the first score of each shard
    features/shard_quality/<digest of the scores>.parquet   later scores
    features/source_stats/<RawData digest>.parquet

Rows are provenance and have timestamps. Manifests are content and have none, so the same data always have the same digest.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.features.columns import COLUMNS, CREATED, EVENT, schema_of
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawData, digest_of_manifest
from mm1.store.base import Store, digest_of

FEATURES = "features/"


def row_key(view: str, name: str) -> str:
    """Return the object name of a file of rows."""
    return f"{FEATURES}{view}/{name}.parquet"


def push_raw(store: Store, raw: RawData, at: datetime) -> bool:
    """Add ingested data to the feature store; False if they were already there.

    Args:
        store: the store with the data.
        raw: the data.
        at: the event time.
    """
    digest = digest_of_manifest(raw)
    if store.exists(row_key("source_stats", digest)):
        return False
    shards = [shard for source in raw.sources.values() for shard in source.shards]
    counts = [
        {
            "shard": shard.tar.sha256,
            "num_samples": shard.num_samples,
            "num_images": shard.num_images,
            "num_text_tokens": shard.num_text_tokens,
            **shard.features,
        }
        for shard in shards
    ]
    sources = [
        {
            "source": source_key(digest, name),
            "source_samples": source.num_samples,
            "source_kept_share": round(source.num_samples / max(1, source.num_read), 6),
        }
        for name, source in raw.sources.items()
    ]
    recorded = known_shards(store)
    fresh = [row for row in counts if row["shard"] not in recorded]
    write_rows(store, "shard_stats", digest, fresh, at)
    write_rows(store, "shard_quality", digest, [row for row in fresh if "quality" in row], at)
    write_rows(store, "source_stats", digest, sources, at)  # written last: marks the other files as complete
    return True


def push_scores(store: Store, scores: Mapping[str, float], at: datetime) -> str:
    """Add later quality scores of shards.

    Args:
        store: the store with the shards.
        scores: SHA-256 of a shard's tar -> score in 0..1.
        at: the event time.

    Returns:
        Object name of the rows.

    Raises:
        ConfigurationError: a score out of range, or for a shard unknown to the feature store.
    """
    unknown = sorted(set(scores) - known_shards(store))
    if unknown:
        raise ConfigurationError(f"scores: unknown shard {unknown[0]!r}; expected the SHA-256 of a shard's tar")
    wrong = next((shard for shard, score in scores.items() if not 0 <= score <= 1), None)
    if wrong:
        raise ConfigurationError(f"scores: expected a score from 0 to 1 for shard {wrong[:12]}, got {scores[wrong]}")
    name = digest_of(repr((sorted(scores.items()), at.isoformat())).encode())
    write_rows(store, "shard_quality", name, [{"shard": shard, "quality": score} for shard, score in scores.items()], at)
    return row_key("shard_quality", name)


def source_key(raw_digest: str, name: str) -> str:
    """Return the key of a source of a RawData manifest."""
    return f"{raw_digest}/{name}"


def write_rows(store: Store, view: str, name: str, rows: Iterable[Mapping[str, Any]], at: datetime) -> None:
    """Write rows of one view, sorted by entity; without rows, no file is written."""
    schema, entity = schema_of(view), COLUMNS[view].entity
    # one tar may occur under several names; its features are the same
    unique = {row[entity]: {field: row.get(field) for field in schema.names} for row in rows}
    table = [{**row, EVENT: at.astimezone(UTC), CREATED: datetime.now(UTC)} for _, row in sorted(unique.items())]
    if table:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(table, schema=schema), buffer, compression="zstd")
        store.write(row_key(view, name), buffer.getvalue())


def known_shards(store: Store) -> set[str]:
    """List the shards recorded in the feature store."""
    return set(read_rows(store, "shard_stats", ["shard"])["shard"].to_pylist())


def read_rows(store: Store, view: str, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a view.

    Raises:
        DataError: a file of rows is damaged.
    """
    schema = schema_of(view)
    selected = pa.schema([schema.field(name) for name in columns or schema.names])
    tables = [selected.empty_table()]
    for key in row_keys(store, view):
        try:
            tables.append(pq.read_table(io.BytesIO(store.read(key)), columns=selected.names).cast(selected))
        except (pa.ArrowException, ValueError) as error:
            raise DataError(f"{store.uri}/{key}: cannot read the feature rows ({str(error).splitlines()[0]})") from None
    return pa.concat_tables(tables)


def row_keys(store: Store, view: str) -> list[str]:
    """List the objects with rows of a view."""
    return [key for key in store.list(f"{FEATURES}{view}/") if key.endswith(".parquet")]


def gather_rows(store: Store, folder: Path) -> Path:
    """Write the rows of all views as ``<folder>/<view>/rows.parquet`` for Feast's file store.

    One file per view: Dask, which Feast uses for joins, fails on entities without rows if a view has several files.
    """
    for view in COLUMNS:
        (folder / view).mkdir(parents=True, exist_ok=True)
        pq.write_table(read_rows(store, view), folder / view / "rows.parquet")
    return folder


def fingerprint_of(store: Store) -> str:
    """Compute a fingerprint of the feature rows: files are immutable, so their names are sufficient."""
    return digest_of("\n".join(store.list(FEATURES)).encode())
