"""The feature store's objects, in Feast's own terms: entities, sources, views. Imports feast; nothing light imports this file.

    shard, source (entities)
    shard_stats    per shard: what follows from its content (written by ingest)
    shard_quality  per shard: a score in 0..1; ingest gives a first one, better judges may add later ones
    source_stats   per source: how much its filters and the search for duplicates left

Every row carries the time at which it became known. A mixture asks for the state at one point in time, so that a score that
comes later never changes what an earlier mixture was made of.
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
    """The feature views over a folder with one sub-folder of parquet files per view.

    Args:
        folder: a path, or an ``s3://`` address for offline stores that read buckets.
    """
    return [
        FeatureView(
            name=view,
            entities=[ENTITY_OF[table.entity]],
            ttl=timedelta(0),  # a feature holds until a later row of the same entity replaces it
            schema=[Field(name=column, dtype=Float64, description=meaning) for column, meaning in table.columns.items()],
            source=FileSource(
                name=f"{view}_rows", path=f"{folder}/{view}", timestamp_field=EVENT, created_timestamp_column=CREATED
            ),
            description=table.description,
            online=True,
        )
        for view, table in COLUMNS.items()
    ]
