"""Feature rows in the store: one parquet file per view and event, named by what it tells of; written once, never changed.

    features/shard_stats/<RawData digest>.parquet       written when the data are ingested
    features/shard_quality/<RawData digest>.parquet     the first score of each shard
    features/shard_quality/<digest of the scores>.parquet   later ones
    features/source_stats/<RawData digest>.parquet

Rows are provenance: they know when. Manifests are content and never do, so the same data have the same digest at any time.
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
    """The object's name of some rows."""
    return f"{FEATURES}{view}/{name}.parquet"


def push_raw(store: Store, raw: RawData, at: datetime) -> bool:
    """Tell the feature store of ingested data; False when it knew them already.

    Args:
        store: where the data lie.
        raw: the data.
        at: when they became known.
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
    known = known_shards(store)
    fresh = [row for row in counts if row["shard"] not in known]
    write_rows(store, "shard_stats", digest, fresh, at)
    write_rows(store, "shard_quality", digest, [row for row in fresh if "quality" in row], at)
    write_rows(store, "source_stats", digest, sources, at)  # last: it says that all of them are there
    return True


def push_scores(store: Store, scores: Mapping[str, float], at: datetime) -> str:
    """Add later quality scores of shards.

    Args:
        store: where the shards lie.
        scores: SHA-256 of a shard's tar -> score in 0..1.
        at: when they became known.

    Returns:
        The object's name of the rows.

    Raises:
        ConfigurationError: a score out of range, or of a shard that the feature store does not know.
    """
    unknown = sorted(set(scores) - known_shards(store))
    if unknown:
        raise ConfigurationError(f"scores: no shard {unknown[0]!r} is known here; name shards by the SHA-256 of their tar")
    wrong = next((shard for shard, score in scores.items() if not 0 <= score <= 1), None)
    if wrong:
        raise ConfigurationError(f"scores: {scores[wrong]} for shard {wrong[:12]} is not between 0 and 1")
    name = digest_of(repr((sorted(scores.items()), at.isoformat())).encode())
    write_rows(store, "shard_quality", name, [{"shard": shard, "quality": score} for shard, score in scores.items()], at)
    return row_key("shard_quality", name)


def source_key(raw_digest: str, name: str) -> str:
    """The key of a source of a RawData manifest."""
    return f"{raw_digest}/{name}"


def write_rows(store: Store, view: str, name: str, rows: Iterable[Mapping[str, Any]], at: datetime) -> None:
    """Write rows of one view, in the order of their entities; no rows, no file."""
    schema, entity = schema_of(view), COLUMNS[view].entity
    # one tar may stand under several names; its features are the same
    unique = {row[entity]: {field: row.get(field) for field in schema.names} for row in rows}
    table = [{**row, EVENT: at.astimezone(UTC), CREATED: datetime.now(UTC)} for _, row in sorted(unique.items())]
    if table:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(table, schema=schema), buffer, compression="zstd")
        store.write(row_key(view, name), buffer.getvalue())


def known_shards(store: Store) -> set[str]:
    """Shards that the feature store has heard of."""
    return set(read_rows(store, "shard_stats", ["shard"])["shard"].to_pylist())


def read_rows(store: Store, view: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of a view.

    Raises:
        DataError: a file of rows is damaged.
    """
    schema = schema_of(view)
    wanted = pa.schema([schema.field(name) for name in columns or schema.names])
    tables = [wanted.empty_table()]
    for key in row_keys(store, view):
        try:
            tables.append(pq.read_table(io.BytesIO(store.read(key)), columns=wanted.names).cast(wanted))
        except (pa.ArrowException, ValueError) as error:
            raise DataError(f"{store.uri}/{key}: the feature rows cannot be read ({str(error).splitlines()[0]})") from None
    return pa.concat_tables(tables)


def row_keys(store: Store, view: str) -> list[str]:
    """Objects that hold rows of a view."""
    return [key for key in store.list(f"{FEATURES}{view}/") if key.endswith(".parquet")]


def gather_rows(store: Store, folder: Path) -> Path:
    """Lay the rows of all views out as ``<folder>/<view>/rows.parquet``, for Feast's file store.

    One file each: Dask, which joins them, fails on entities without a row where a view has several files.
    """
    for view in COLUMNS:
        (folder / view).mkdir(parents=True, exist_ok=True)
        pq.write_table(read_rows(store, view), folder / view / "rows.parquet")
    return folder


def state_of(store: Store) -> str:
    """Changes whenever rows were added: rows are written once, so their names tell."""
    return digest_of("\n".join(store.list(FEATURES)).encode())
