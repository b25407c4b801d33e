"""What is new since the last mixture: the condition under which training again is worth its cost.

``data_mix`` notes which mixture it made, and as of when, in ``mixes/<sources>.json``; shards that became known later are news.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow.compute as pc

from mm1.data.features.columns import EVENT
from mm1.data.features.rows import read_rows
from mm1.data.features.snapshot import parse_time
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawData
from mm1.store.base import Store

MIXES = "mixes/"


class LastMix(NamedTuple):
    """The newest mixture of some sources."""

    digest: str
    as_of: datetime
    """What was known by then could enter it."""


class News(NamedTuple):
    """Shards that became known after a time."""

    shards: int
    samples: int


def mix_key(sources: Sequence[str]) -> str:
    """The object's name of the pointer to the newest mixture of some sources."""
    return f"{MIXES}{'+'.join(sorted(sources))}.json"


def remember_mix(store: Store, sources: Sequence[str], last: LastMix) -> None:
    """Note a mixture as the newest of its sources."""
    store.write_json(mix_key(sources), {"mix": last.digest, "as_of": last.as_of.isoformat()})


def last_mix(store: Store, sources: Sequence[str]) -> LastMix | None:
    """The newest mixture of some sources; None before the first one.

    Raises:
        DataError: the pointer is damaged.
    """
    pointer = store.read_json(mix_key(sources))
    if pointer is None:
        return None
    try:
        return LastMix(str(pointer["mix"]), parse_time(str(pointer["as_of"])))
    except (KeyError, TypeError, ConfigurationError):
        raise DataError(f"{store.uri}/{mix_key(sources)} is damaged; remove it, and the next mixture writes it again") from None


def news_since(store: Store, raw: RawData, sources: Sequence[str], since: datetime | None) -> News:
    """Shards of some sources that the feature store first heard of after a time; None = ever."""
    rows = read_rows(store, "shard_stats", ["shard", EVENT]).group_by("shard").aggregate([(EVENT, "min")])
    fresh = rows if since is None else rows.filter(pc.greater(rows[f"{EVENT}_min"], since))
    names = set(fresh["shard"].to_pylist())
    found = {shard.tar.sha256: shard.num_samples for name in sources for shard in raw.sources[name].shards}
    counts = [samples for shard, samples in found.items() if shard in names]
    return News(len(counts), sum(counts))
