"""Drift of the data: how far the statistics of new shards are from those of the last mixture's shards.

    feature store -> statistics of each shard -> bins of equal weight in the old shards -> population stability index

The population stability index of a statistic is the sum over bins of ``(new - old) * ln(new / old)``, where ``old`` and ``new``
are the shares of samples in a bin (N. Siddiqi, Credit Risk Scorecards, Wiley 2006: below 0.1 no change, from 0.25 on a
significant one). The feature store has one row per shard, so a shard is the unit, weighted by its samples. With few shards the
index is large by chance: without any change it is about chi-square distributed with ``bins - 1`` degrees of freedom, times
``1 / old shards + 1 / new shards`` (B. Yurdakul, Statistical Properties of Population Stability Index, Western Michigan
University 2018). An index is a drift only above the quantile of that which any of the compared statistics exceeds by chance in
5 % of the cases (Bonferroni). A change by two standard deviations shows from about 20 new shards on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mm1.data.features.rows import read_rows
from mm1.store.base import Store

MAX_BINS = 10
"""Deciles, as in the literature."""
SHARDS_PER_BIN = 2
"""Old and new shards in a bin at least, on average; with fewer than four of either there is nothing to compare."""
CHANCE = 0.05
"""Probability of a drift, of any statistic, without any change."""
PRIOR = 0.5
"""Shards added to each bin, so that an empty bin has a logarithm (Jeffreys' prior)."""
OWN = (
    "mean_words",
    "mean_caption_words",
    "mean_image_side_px",
    "english_share",
    "other_language_share",
    "duplicate_rate",
    "damaged_rate",
)
"""Columns of the feature view ``shard_stats`` that are compared as they are."""
PER_SAMPLE = {"images_per_sample": "num_images", "tokens_per_sample": "num_text_tokens"}
"""Statistic -> the column that is divided by the samples of the shard."""
Values = npt.NDArray[np.float64]


class Drift(NamedTuple):
    """Change of one statistic of a source."""

    source: str
    statistic: str
    psi: float
    """Population stability index."""
    chance: float
    """What the index does not exceed by chance."""

    @property
    def size(self) -> float:
        """The index if it is not a matter of chance, otherwise 0."""
        return self.psi if self.psi > self.chance else 0.0

    def __str__(self) -> str:
        return f"{self.psi:.3g} ({self.statistic} of {self.source}; up to {self.chance:.3g} by chance)"


def largest_drift(store: Store, old: Mapping[str, Collection[str]], new: Mapping[str, Collection[str]]) -> Drift | None:
    """Return the largest drift of a statistic of a source; None if there is nothing to compare.

    Args:
        store: store with the feature rows.
        old: source -> SHA-256 of the tars of the last mixture.
        new: source -> SHA-256 of the tars that have arrived since.

    Raises:
        DataError: a file of rows is damaged.
    """
    rows = {row["shard"]: row for row in statistics_of(store).to_pylist()}
    comparisons = []
    for source in new:
        before = [rows[shard] for shard in old.get(source, ()) if shard in rows]
        after = [rows[shard] for shard in new[source] if shard in rows]
        comparisons += [_comparison(source, statistic, before, after) for statistic in (*OWN, *PER_SAMPLE)]
    known = [comparison for comparison in comparisons if comparison is not None]
    drifts = [comparison.drift(CHANCE / len(known)) for comparison in known]
    return max(drifts, key=lambda drift: (drift.size, drift.psi), default=None)


def statistics_of(store: Store) -> pa.Table:
    """Read the statistics of all shards: shard, num_samples, and the compared ones; one row per shard, its newest."""
    columns = ["shard", "event_timestamp", "num_samples", *OWN, *PER_SAMPLE.values()]
    rows = read_rows(store, "shard_stats", columns).sort_by([("event_timestamp", "descending")])
    _, first = np.unique(np.asarray(rows["shard"].to_pylist(), dtype=str), return_index=True)
    table = rows.take(pa.array(np.sort(first)))
    samples = table["num_samples"].to_numpy()
    for name, column in PER_SAMPLE.items():
        table = table.append_column(name, pa.array(table[column].to_numpy() / np.maximum(samples, 1)))
    return table


class _Comparison(NamedTuple):
    """Shares of the samples of old and new shards in each bin of a statistic, and the numbers of shards."""

    source: str
    statistic: str
    old: Values
    num_old: int
    new: Values
    num_new: int

    def drift(self, chance: float) -> Drift:
        """Return the drift, given the probability with which it may exceed what is chance."""
        limit = chance_limit(len(self.old), self.num_old, self.num_new, chance)
        return Drift(self.source, self.statistic, stability_index(self.old, self.new), limit)


def _comparison(
    source: str, statistic: str, before: list[dict[str, float]], after: list[dict[str, float]]
) -> _Comparison | None:
    """Compare a statistic; None if too few shards have it to form two bins."""
    old, old_weights = _values(before, statistic)
    new, new_weights = _values(after, statistic)
    edges = bin_edges(old, old_weights, len(new))
    if not len(edges):
        return None
    old_shares, new_shares = shares(old, old_weights, edges), shares(new, new_weights, edges)
    return _Comparison(source, statistic, old_shares, len(old), new_shares, len(new))


def _values(rows: list[dict[str, float]], statistic: str) -> tuple[Values, Values]:
    """Return the values of the shards that have the statistic, and their samples."""
    known = [row for row in rows if row[statistic] is not None and np.isfinite(row[statistic])]
    values, weights = ([row[name] for row in known] for name in (statistic, "num_samples"))
    return np.asarray(values, np.float64), np.asarray(weights, np.float64)


def bin_edges(values: Values, weights: Values, num_new: int) -> Values:
    """Return the inner edges of bins that have equal weights; none if the values do not differ, or are too few.

    Args:
        values: of the old shards.
        weights: their samples.
        num_new: number of new shards.
    """
    bins = min(MAX_BINS, len(values) // SHARDS_PER_BIN, num_new // SHARDS_PER_BIN)
    if bins < 2:
        return np.empty(0)
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(cumulated, np.arange(1, bins) / bins)
    edges = np.unique(values[order][np.minimum(places, len(values) - 1)])
    return edges[edges < values.max()]  # the last bin is not empty


def shares(values: Values, weights: Values, edges: Values) -> Values:
    """Return the share of samples in each bin; a value on an edge belongs to the bin below it."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), weights, minlength=len(edges) + 1)
    number = weights.sum() ** 2 / np.square(weights).sum()  # shards of equal weight with as much information (Kish 1965)
    smoothed: Values = (counts / weights.sum() * number + PRIOR) / (number + PRIOR * len(counts))
    return smoothed


def stability_index(old: Values, new: Values) -> float:
    """Return the population stability index of the shares in each bin."""
    return float(np.sum((new - old) * np.log(new / old)))


def chance_limit(bins: int, num_old: int, num_new: int, chance: float) -> float:
    """Return the index that samples of the same distribution exceed with a given probability.

    Args:
        bins: number of bins.
        num_old: number of old shards.
        num_new: number of new shards.
        chance: the probability.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(1 - chance, bins - 1)) * (1 / num_old + 1 / num_new)
