"""Names, types and meanings of the features: plain data, shared by those who write rows, Feast, and those who read."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

EVENT, CREATED = "event_timestamp", "created_timestamp"
"""When a row became true, and when it was written; of several rows with one event time the one written last counts."""
ENTITIES = {
    "shard": "one tar of an MM1 source, by its SHA-256",
    "source": "a source of a RawData manifest: <digest>/<name>",
}


class FeatureView(NamedTuple):
    """One feature view."""

    entity: str
    description: str
    columns: dict[str, str]
    """Feature -> what it means."""


COLUMNS: dict[str, FeatureView] = {
    "shard_stats": FeatureView(
        "shard",
        "what follows from a shard's content",
        {
            "num_samples": "samples",
            "num_images": "images",
            "num_text_tokens": "text tokens with the end-of-document tokens",
            "mean_words": "words of a sample",
            "mean_caption_words": "words of a caption; absent for other sources",
            "mean_image_side_px": "mean of width and height of its images, in pixels",
            "english_share": "share of samples whose share of stop words is that of English",
            "duplicate_rate": "share of duplicates among the samples that its part was read with",
            "damaged_rate": "share of samples with unreadable or missing images among those read",
        },
    ),
    "shard_quality": FeatureView("shard", "how good a shard is", {"quality": "a score from 0 (useless) to 1"}),
    "source_stats": FeatureView(
        "source",
        "what is left of a source",
        {
            "source_samples": "samples of all its shards",
            "source_kept_share": "samples that stayed, of those that were read",
        },
    ),
}
VIEW_OF = {column: view for view, table in COLUMNS.items() for column in table.columns}
"""Feature -> its view; names are unique over all views."""


def schema_of(view: str) -> pa.Schema:
    """The schema of a view's parquet files."""
    table = COLUMNS[view]
    time = pa.timestamp("us", tz="UTC")
    fields = [(table.entity, pa.string()), (EVENT, time), (CREATED, time), *((name, pa.float64()) for name in table.columns)]
    return pa.schema(fields)
