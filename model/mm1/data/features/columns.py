"""Names, types and descriptions of the features: plain data shared by the writers of rows, Feast and the readers."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

EVENT, CREATED = "event_timestamp", "created_timestamp"
"""Event time of a row and its creation time; of rows with the same event time, the most recently created one is used."""
ENTITIES = {
    "shard": "one tar of an MM1 source, identified by its SHA-256",
    "source": "a source of a RawData manifest: <digest>/<name>",
}


class FeatureView(NamedTuple):
    """One feature view."""

    entity: str
    description: str
    columns: dict[str, str]
    """Feature -> description."""


COLUMNS: dict[str, FeatureView] = {
    "shard_stats": FeatureView(
        "shard",
        "statistics of a shard's content",
        {
            "num_samples": "samples",
            "num_images": "images",
            "num_text_tokens": "text tokens including end-of-document tokens",
            "mean_words": "mean words per sample",
            "mean_caption_words": "mean words per caption; absent for other sources",
            "mean_image_side_px": "mean of the images' widths and heights, in pixels",
            "english_share": "fraction of samples with a stop-word ratio typical of English",
            "other_language_share": "fraction of samples in a language without a list of stop words; not judged by them",
            "duplicate_rate": "fraction of duplicates among the samples read with its part",
            "damaged_rate": "fraction of the samples read that have unreadable or missing images",
        },
    ),
    "shard_quality": FeatureView("shard", "quality of a shard", {"quality": "score from 0 (useless) to 1"}),
    "source_stats": FeatureView(
        "source",
        "statistics of a source after filtering",
        {
            "source_samples": "samples in all shards",
            "source_kept_share": "fraction of the samples read that were kept",
        },
    ),
}
VIEW_OF = {column: view for view, table in COLUMNS.items() for column in table.columns}
"""Feature -> its view; feature names are unique across views."""


def schema_of(view: str) -> pa.Schema:
    """Return the schema of a view's parquet files."""
    table = COLUMNS[view]
    time = pa.timestamp("us", tz="UTC")
    fields = [(table.entity, pa.string()), (EVENT, time), (CREATED, time), *((name, pa.float64()) for name in table.columns)]
    return pa.schema(fields)
