"""The feature repository's objects; what they mean stands in mm1.data.features.definitions.

Rows are read from `runs/store`, which `make run` writes. For another store put its address here, for example
`s3://bucket/prefix/features` (with an offline store that reads buckets).
"""

from pathlib import Path

from mm1.data.features.definitions import ENTITY_OF, views

ROWS = Path(__file__).resolve().parents[5] / "runs" / "store" / "features"

shard, source = ENTITY_OF.values()
shard_stats, shard_quality, source_stats = views(str(ROWS))
