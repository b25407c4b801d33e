"""New data since a mixture: a trigger for retraining.

``data_mix`` records its mixture and as-of time in ``mixes/<sources>.json``; shards that arrived later count as new.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from mm1.data.features.columns import EVENT
from mm1.data.features.rows import read_rows
from mm1.data.features.snapshot import parse_time
from mm1.data.source_names import named_shards
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawData, Shard
from mm1.store.base import Store, digest_of

MIXES = "mixes/"
MAX_NAME = 200
"""Longer lists of names are replaced by their digest: file systems allow 255 bytes."""


class LastMix(NamedTuple):
    """The latest mixture of a set of sources."""

    digest: str
    as_of: datetime
    """As-of time: only shards available by then could be selected."""


class NewData(NamedTuple):
    """Shards that became available after a given time."""

    shards: int
    samples: int


class Arrivals(NamedTuple):
    """Shards of some sources that became available after a given time."""

    shards: dict[str, list[Shard]]
    """Source -> its new shards, in the order of the data."""
    latest: datetime | None
    """When the newest shard of all, new or not, became available; None if none is recorded."""

    @property
    def new(self) -> NewData:
        """Number of new shards and of the samples in them; a tar that occurs under several names counts once."""
        unique = {shard.tar.sha256: shard.num_samples for shards in self.shards.values() for shard in shards}
        return NewData(len(unique), sum(unique.values()))


def mix_key(sources: Sequence[str]) -> str:
    """Return the object name of the pointer to the latest mixture of a set of sources and sub-sources."""
    names = "+".join(quote(name, safe="") for name in sorted(sources))
    return f"{MIXES}{names if len(names) <= MAX_NAME else digest_of(names.encode())}.json"


def record_mix(store: Store, sources: Sequence[str], last: LastMix) -> None:
    """Record a mixture as the latest of its sources."""
    store.write_json(mix_key(sources), {"mix": last.digest, "as_of": last.as_of.isoformat()})


def last_mix(store: Store, sources: Sequence[str]) -> LastMix | None:
    """Read the latest mixture of a set of sources; None if there is none.

    Raises:
        DataError: the pointer is damaged.
    """
    pointer = store.read_json(mix_key(sources))
    if pointer is None:
        return None
    try:
        return LastMix(str(pointer["mix"]), parse_time(str(pointer["as_of"])))
    except (KeyError, TypeError, ConfigurationError):
        raise DataError(f"{store.uri}/{mix_key(sources)} is damaged; delete it, the next mixture recreates it") from None


def new_data_since(store: Store, raw: RawData, sources: Sequence[str], since: datetime | None) -> NewData:
    """Count the shards and samples that the feature store first recorded after a given time; None = all."""
    return arrivals_since(store, raw, sources, since).new


def arrivals_since(store: Store, raw: RawData, sources: Sequence[str], since: datetime | None) -> Arrivals:
    """Find the shards that the feature store first recorded after a given time; None = all."""
    rows = read_rows(store, "shard_stats", ["shard", EVENT]).group_by("shard").aggregate([(EVENT, "min")])
    first = dict(zip(rows["shard"].to_pylist(), rows[f"{EVENT}_min"].to_pylist(), strict=True))
    shards = {name: [shard for shard in named_shards(raw, name, sources) if shard.tar.sha256 in first] for name in sources}
    times = [first[shard.tar.sha256] for some in shards.values() for shard in some]
    new = {name: [shard for shard in some if since is None or first[shard.tar.sha256] > since] for name, some in shards.items()}
    return Arrivals(new, max(times, default=None))
