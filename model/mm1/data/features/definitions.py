"""Feast objects of the feature store: entities, sources, views. Imports feast, so light modules must not import this file.

    shard, source (entities)
    shard_stats    per shard: statistics of its content (written by ingest)
    shard_quality  per shard: a score in 0..1; ingest writes an initial score, better scorers can add others later
    source_stats   per source: how many samples remain after filtering and deduplication

Every row has the time at which it became available. A mixture is a point-in-time query, so scores added later never change
the content of earlier mixtures.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

from mm1.data.features.columns import COLUMNS, CREATED, ENTITIES, EVENT

ENTITY_OF = {
    name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING, description=description)
    for name, description in ENTITIES.items()
}


def views(folder: str) -> list[FeatureView]:
    """Create the feature views over a folder with one subfolder of parquet files per view.

    Args:
        folder: a path, or an ``s3://`` address for offline stores that read buckets.
    """
    return [
        FeatureView(
            name=view,
            entities=[ENTITY_OF[table.entity]],
            ttl=timedelta(0),  # valid until a later row of the same entity
            schema=[Field(name=column, dtype=Float64, description=meaning) for column, meaning in table.columns.items()],
            source=FileSource(
                name=f"{view}_rows", path=f"{folder}/{view}", timestamp_field=EVENT, created_timestamp_column=CREATED
            ),
            description=table.description,
            online=True,
        )
        for view, table in COLUMNS.items()
    ]
