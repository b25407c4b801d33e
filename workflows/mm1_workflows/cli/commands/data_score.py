"""``mm1 data score``: add quality scores of shards to the feature store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError, DataError
from mm1.lineage.text import count
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store
from mm1_workflows.cli.output import console, say

COLUMNS = ("shard", "quality")


@command(name="score", help="Add quality scores of shards to the feature store.")
@dataclass
class DataScore:
    """``mm1 data score``."""

    scores: Annotated[Path, Arg(value_name="file", help="CSV or parquet: shard (SHA-256 of its tar), quality.")]
    store: StoreArg = DEFAULT_STORE
    at: Annotated[str, Arg(long=True, value_name="TIME", help="Time from which the scores apply, ISO 8601 [default: now].")] = (
        ""
    )

    def __call__(self) -> int:
        """Add scores from a table; mixtures as of an earlier time do not use them."""
        from mm1.data.features.rows import push_scores
        from mm1.data.features.snapshot import parse_time

        scores = read_scores(self.scores)
        store = existing_store(self.store)
        at = parse_time(self.at)
        key = push_scores(store, scores, at)
        say(console(), f"{count(len(scores), 'score')} as of {at.isoformat(timespec='seconds')}: {store.uri}/{key}")
        return 0


def read_scores(path: Path) -> dict[str, float]:
    """Read scores from a CSV or parquet file with the columns shard and quality.

    Raises:
        ConfigurationError: no such file, a missing column, or a repeated shard.
        DataError: the file is damaged, or a score is not a number.
    """
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ConfigurationError(f"scores: no such file: {path}")
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise ConfigurationError(f"{path}: no column {missing[0]!r}; its columns are {', '.join(table.column_names)}")
        shards, values = table["shard"].cast(pa.string()).to_pylist(), table["quality"].cast(pa.float64()).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a table of scores ({str(error).splitlines()[0]})") from None
    if None in values or None in shards:
        row = next(row for row, pair in enumerate(zip(shards, values, strict=True)) if None in pair)
        raise DataError(f"{path}: row {row} has no shard or no score")
    if len(set(shards)) < len(shards):
        raise ConfigurationError(f"{path}: a shard occurs more than once; give one score per shard")
    return dict(zip(shards, values, strict=True))
