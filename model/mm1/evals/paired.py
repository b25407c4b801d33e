"""Difference of two models on the same items, and tests of it. Torch-free.

Items that are not independent, such as several questions about one image, form a cluster, and errors are those of clusters.

A difference is judged by a bootstrap of the clusters under the null hypothesis: the clusters get the weights closest to equal
ones under which the mean difference is the threshold (DiCiccio and Romano 1990, least favorable families), and the p-value is
the share of resamples with a mean of at least the measured one. To the observed clusters, one is added that lost everything,
because a loss that n items do not show can still occur once in n items. Without it, a model that fails one item in fifty would
pass as unchanged on most draws of fifty items. The distribution of resamples is computed by convolution, not drawn: the same
answers always get the same verdict. For losses of single items, the p-value is that of the exact binomial test.

Shape suffixes: C clusters, A atoms (clusters with equal values are one), G cells of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Confidence of bounds and intervals: 1 - the share of models that pass although they are worse than the margin allows."""
POWER = 0.8
"""Probability that the smallest detectable effect is detected."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of two models on the same items."""

    mean: float
    """Mean of a - b over items."""
    stderr: float
    """Its standard error over clusters; unknown for one cluster: nan."""
    low: float
    """Lower end of the two-sided confidence interval."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided p-value of no difference."""
    smallest_effect: float
    """The smallest true difference that this number of items detects, with 80 % power (see `Pairs.smallest_effect`)."""
    num_items: int
    num_clusters: int


def paired_difference(
    values_a: Sequence[float],
    values_b: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Compare two models by their values on the same items.

    Args:
        values_a: values of the first model by item; several draws of an item are further values of its cluster.
        values_b: values of the second model, in the same order.
        clusters: cluster of each item; None: each item is one.
        confidence: confidence of the two-sided interval.

    Raises:
        ValueError: no items, different numbers of them, or a value that is not finite.
    """
    pairs = Pairs.of(values_a, values_b, clusters)
    one_sided = (1 + confidence) / 2
    return Difference(
        mean=pairs.mean,
        stderr=pairs.stderr,
        low=pairs.lower_bound(one_sided),
        high=-pairs.reversed().lower_bound(one_sided),
        p_value=min(1.0, 2 * min(pairs.p_value(0.0), pairs.reversed().p_value(0.0))),
        smallest_effect=pairs.smallest_effect(confidence),
        num_items=pairs.num_items,
        num_clusters=pairs.num_clusters,
    )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Differences a - b of the values of two models on the same items, summed by cluster."""

    totals: Floats
    """Sum of the differences in each cluster (C,)."""
    sizes: Floats
    """Number of items in each cluster (C,)."""
    worst: float
    """Largest possible loss of an item: 1 for metrics between 0 and 1, otherwise the range of the values, including 0."""
    step: float
    """Smallest gap between the differences of items: 1 if they are right or wrong."""

    @classmethod
    def of(cls, values_a: Sequence[float], values_b: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Pairs:
        """Pair the values of two models.

        Raises:
            ValueError: no items, different numbers of them, or a value that is not finite.
        """
        a, b = np.asarray(values_a, float), np.asarray(values_b, float)
        if a.shape != b.shape or a.ndim != 1 or not a.size or (clusters is not None and len(clusters) != a.size):
            raise ValueError(f"expected as many values of both models, and as many clusters; got {a.size} and {b.size} values")
        both = np.concatenate([a, b])
        if not np.isfinite(both).all():
            raise ValueError("expected finite values")
        numbers: dict[Hashable, int] = {}
        names = range(a.size) if clusters is None else clusters
        cluster_of = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        worst = max(1.0, float(both.max() - min(0.0, both.min())))
        gaps = np.diff(np.unique(np.round([*(a - b), -worst, worst], 9)))
        return cls(
            totals=np.bincount(cluster_of, a - b).astype(float),
            sizes=np.bincount(cluster_of).astype(float),
            worst=worst,
            step=float(gaps.min()),
        )

    @property
    def num_items(self) -> int:
        """Number of pairs."""
        return int(self.sizes.sum())

    @property
    def num_clusters(self) -> int:
        """Number of independent groups of pairs."""
        return len(self.sizes)

    @property
    def mean(self) -> float:
        """Mean difference over items."""
        return float(self.totals.sum() / self.sizes.sum())

    @property
    def stderr(self) -> float:
        """Standard error of the mean over clusters; nan for one cluster."""
        if self.num_clusters < 2:
            return math.nan
        residuals_C = self.totals - self.mean * self.sizes
        correction = self.num_clusters / (self.num_clusters - 1)
        return math.sqrt(correction * float(residuals_C @ residuals_C)) / self.num_items

    def reversed(self) -> Pairs:
        """Return the differences b - a."""
        return replace(self, totals=-self.totals)

    def p_value(self, threshold: float) -> float:
        """Return the probability of a mean as high as the measured one if the true mean is at most `threshold`."""
        excess_C = self.totals - threshold * self.sizes
        size = float(self.sizes @ self.sizes) / self.num_items  # of the cluster of an item, on average
        values_A, counts_A = np.unique(np.append(excess_C, (-self.worst - threshold) * size), return_counts=True)
        if values_A[0] >= 0:
            return 0.0  # no item can lose that much
        if values_A[-1] <= 0:
            return 1.0
        weights_A = _tilted_to_zero(values_A, counts_A)
        measured = float(excess_C.sum())
        return min(1.0, _tail_of_sum(values_A, weights_A, self.num_clusters, measured - self.step / 2))

    def lower_bound(self, confidence: float = CONFIDENCE) -> float:
        """Return the lower bound of the true mean at this one-sided confidence."""
        low, high = -self.worst, max(self.mean, -self.worst)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p_value(middle) <= 1 - confidence else (low, middle)
        return low

    def smallest_effect(self, confidence: float = CONFIDENCE, power: float = POWER) -> float:
        """Return the smallest true difference that this number of items detects.

        It is detected with the probability `power` if the differences vary as the measured ones do. It is at least the loss
        that all these clusters can miss: of a model that fails a share s of them, n clusters show nothing with the probability
        (1 - s)^n.
        """
        if self.num_clusters < 2:
            return math.inf
        return max(_quantiles(confidence, power) * self.stderr, self.worst * self._unseen(self.num_clusters, confidence))

    def items_needed(self, effect: float, confidence: float = CONFIDENCE, power: float = POWER) -> int:
        """Return the number of items of such clusters that detect `effect`.

        Raises:
            ValueError: the effect is not positive, or there is one cluster, whose spread is unknown.
        """
        if effect <= 0 or self.num_clusters < 2:
            raise ValueError("expected a positive effect and at least two clusters")
        by_spread = self.num_clusters * (_quantiles(confidence, power) * self.stderr / effect) ** 2
        share = min(effect / self.worst, 1 - 1e-12)
        by_unseen = math.log(1 - confidence) / math.log(1 - share)
        num_clusters = math.ceil(max(by_spread, by_unseen) - 1e-9)
        return math.ceil(num_clusters * self.num_items / self.num_clusters - 1e-9)

    @staticmethod
    def _unseen(num_clusters: int, confidence: float) -> float:
        return float(1 - (1 - confidence) ** (1 / num_clusters))


def _quantiles(confidence: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(confidence) + normal.inv_cdf(power)


def _tilted_to_zero(values_A: Floats, counts_A: NDArray[np.int64]) -> Floats:
    """Return the weights proportional to count x exp(t x value) under which the mean is 0; some values are on either side.

    Newton's method on t, whose every step is kept inside the bracket of the root.
    """
    scaled_A = values_A / np.abs(values_A).max()
    low, high, t = -math.inf, math.inf, 0.0
    for _ in range(200):
        exponents_A = t * scaled_A
        weights_A = counts_A * np.exp(exponents_A - exponents_A.max())
        weights_A /= weights_A.sum()
        mean = float(weights_A @ scaled_A)
        if abs(mean) < 1e-12:
            break
        low, high = (low, t) if mean > 0 else (t, high)
        variance = float(weights_A @ scaled_A**2) - mean**2
        step = -mean / variance if variance > 0 else math.copysign(math.inf, -mean)
        limit = 2 * abs(t) + 8  # far from the root, the variance is no guide
        t = t + max(-limit, min(limit, step))
        if not low < t < high:
            t = (low + high) / 2
    return weights_A


def _tail_of_sum(values_A: Floats, weights_A: Floats, count: int, least: float) -> float:
    """Return the probability that `count` independent values with mean 0 have a sum of at least `least`.

    The distribution is convolved on a grid that spans 10 standard deviations of the sum on either side. A value between two
    cells is divided between them such that its mean stays; this adds at most 0.3 % to the variance.
    """
    deviation = math.sqrt(count * float(weights_A @ values_A**2))
    half = 1.01 * min(10 * deviation, count * float(np.abs(values_A).max()))
    num_cells = 2 ** max(10, math.ceil(math.log2(200 * math.sqrt(count))))
    cell = 2 * half / num_cells
    position_A = values_A / cell
    below_A = np.floor(position_A).astype(np.int64)
    share_A = position_A - below_A
    single_G = np.bincount(below_A % num_cells, weights_A * (1 - share_A), num_cells)
    single_G += np.bincount((below_A + 1) % num_cells, weights_A * share_A, num_cells)
    sum_G = np.fft.fftshift(np.fft.irfft(_power(np.fft.rfft(single_G), count), num_cells))
    first = math.ceil(least / cell - 1e-9) + num_cells // 2
    return max(0.0, float(sum_G[max(0, first) :].sum()))


def _power(base: NDArray[np.complex128], exponent: int) -> NDArray[np.complex128]:
    """Raise numbers to an integer power by squaring, which is ten times faster than numpy's complex power."""
    result = np.ones_like(base)
    while exponent:
        if exponent & 1:
            result = result * base
        base, exponent = base * base, exponent >> 1
    return result
