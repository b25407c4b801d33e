"""Reasons to train again: how many samples are new, how far they drifted, and how old the served model is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mm1.data.features.drift import largest_drift
from mm1.data.features.new_data import Arrivals, arrivals_since, last_mix
from mm1.data.source_names import named_shards, parent_of
from mm1.errors import DataError
from mm1.lineage.retraining import Retraining
from mm1.manifests import DataMix, Digest, RawData, load_digest
from mm1.store.base import Store

DAY_S = 86_400.0


class Limits(NamedTuple):
    """Values from which on to train again; 0 = off."""

    min_samples: int = 0
    """New samples."""
    min_share: float = 0.0
    """New samples, divided by those of the last mixture's data."""
    max_drift: float = 0.0
    """Largest population stability index of a statistic of the new shards."""
    max_age_days: float = 0.0
    """Age of the served model, if anything is new."""


class Reference(NamedTuple):
    """The data that new data are compared with."""

    name: str
    as_of: datetime
    """Shards that became available later are new."""
    raw: RawData | None
    """None if it was removed from the store."""

    def __str__(self) -> str:
        return f"{self.name} (as of {self.as_of.isoformat(timespec='seconds')})"


class Threshold(NamedTuple):
    """A possible reason to train again."""

    name: str
    limit: str
    value: str
    reached: bool

    def __str__(self) -> str:
        return f"{self.name}={self.limit}: {self.value}"


def reference_of(store: Store, sources: Sequence[str], last: Retraining | None) -> Reference | None:
    """Return the data of the target's last retraining, else of the last mixture of these sources; None before the first one.

    The mixtures of other runs do not count once there was a retraining: an experiment must not hide new data from it.

    Raises:
        DataError: the pointer to the last mixture is damaged.
    """
    if last is not None and set(last.sources) == set(sources):
        return Reference(f"the retraining of run {last.run}", last.as_of, _raw(store, last.data))
    mix = last_mix(store, sources)
    return None if mix is None else Reference(f"the mixture {mix.digest[:12]}", mix.as_of, _raw(store, mix.digest))


def _raw(store: Store, digest: Digest) -> RawData | None:
    """Load RawData, or that of a mixture."""
    try:
        manifest = load_digest(store, digest)
        manifest = load_digest(store, manifest.raw) if isinstance(manifest, DataMix) else manifest
    except DataError:
        return None
    return manifest if isinstance(manifest, RawData) else None


class Findings(NamedTuple):
    """What is new, and which thresholds it reaches."""

    arrivals: Arrivals
    thresholds: list[Threshold]
    summary: str
    """New samples and shards, and since when."""

    @property
    def reason(self) -> str:
        """Why to train again; empty if no threshold is reached."""
        reached = ", ".join(map(str, filter(lambda threshold: threshold.reached, self.thresholds)))
        return f"{self.summary}; reached: {reached}" if reached else ""

    @property
    def why_not(self) -> str:
        """Why to wait."""
        if not self.arrivals.new.samples:
            return f"nothing new: {self.summary}"
        return f"{self.summary}; below every threshold: {', '.join(map(str, self.thresholds))}"


def look(
    store: Store,
    raw: RawData,
    sources: Sequence[str],
    reference: Reference | None,
    limits: Limits,
    age_days: float | None = None,
) -> Findings:
    """Compare the current data with the reference, and all values with their limits.

    Args:
        store: store with the feature rows.
        raw: current data.
        sources: sources and sub-sources of the mixture.
        reference: data of the last mixture; None before the first one.
        limits: the thresholds.
        age_days: age of the served model; None if nothing is served.

    Raises:
        DataError: feature rows are damaged.
    """
    arrivals = arrivals_since(store, raw, sources, reference.as_of if reference else None)
    new = arrivals.new
    since = f" since {reference}" if reference else ", and no mixture yet"
    summary = f"{new.samples:,} new samples in {new.shards:,} shards of {', '.join(sources)}{since}"
    thresholds = []
    if limits.min_samples or reference is None:
        limit = max(1, limits.min_samples)
        thresholds.append(Threshold("min_samples", f"{limit:,}", f"{new.samples:,}", new.samples >= limit))
    if reference is not None and limits.min_share:
        thresholds.append(_share(reference, sources, new.samples, limits.min_share))
    if reference is not None and limits.max_drift:
        thresholds.append(_drift(store, reference, sources, arrivals, limits.max_drift))
    if limits.max_age_days and age_days is not None:
        old = age_days >= limits.max_age_days and new.samples > 0
        thresholds.append(Threshold("max_age_days", f"{limits.max_age_days:g}", f"{age_days:.1f}", old))
    return Findings(arrivals, thresholds, summary)


def _share(reference: Reference, sources: Sequence[str], new: int, limit: float) -> Threshold:
    total = sum(samples for shards in _shards_of(reference, sources).values() for samples in shards.values())
    if not total:
        return Threshold("min_share", f"{limit:g}", "unknown, the last mixture's data were removed", reached=False)
    return Threshold("min_share", f"{limit:g}", f"{new / total:.3g} of {total:,} samples", new / total >= limit)


def _drift(store: Store, reference: Reference, sources: Sequence[str], arrivals: Arrivals, limit: float) -> Threshold:
    new = {source: {shard.tar.sha256 for shard in shards} for source, shards in arrivals.shards.items()}
    drift = largest_drift(store, _shards_of(reference, sources), new)
    if drift is None:
        return Threshold("max_drift", f"{limit:g}", "unknown, too few shards to compare", reached=False)
    return Threshold("max_drift", f"{limit:g}", str(drift), drift.size > limit)


def _shards_of(reference: Reference, sources: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the samples of each shard of the reference: source -> SHA-256 of the tar -> samples."""
    if reference.raw is None:
        return {}
    known = [source for source in sources if parent_of(source) in reference.raw.sources]
    return {
        source: {shard.tar.sha256: shard.num_samples for shard in named_shards(reference.raw, source, sources)}
        for source in known
    }
