"""Objects of the Feast repository; they are documented in mm1.data.features.definitions.

Rows are read from `runs/store`, which `make run` writes. To use another store, set its address below, for example
`s3://bucket/prefix/features` (this needs an offline store that reads buckets).
"""

from pathlib import Path

from mm1.data.features.definitions import ENTITY_OF, views

ROWS = Path(__file__).resolve().parents[5] / "runs" / "store" / "features"

shard, source = ENTITY_OF.values()
shard_stats, shard_quality, source_stats = views(str(ROWS))
