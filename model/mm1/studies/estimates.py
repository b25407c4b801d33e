"""Means and effects with errors over seeds and items, both random. Torch-free.

Every level answers the same items with every seed, so seeds and items are crossed, and both are samples: of all seeds, and of
all items that could be asked. The value of seed s and cluster c (items of one image) is modelled as

    effect + seed_s + cluster_c + rest_sc

and the variance of the mean is estimated from the mean squares of a two-way analysis of variance,

    variance = (max(MS_seeds, MS_rest) + max(MS_clusters, MS_rest) - MS_rest) / (S C).

Tests are t-tests with Satterthwaite's degrees of freedom. He takes mean squares as exact, and that of three seeds is often far
too small by chance: equal models would differ significantly in up to 7.6 % of studies instead of 5 %. The degrees of freedom
are therefore computed with the seeds' mean square at the upper quartile of its confidence distribution (simulated in
tests/bench/simulate_verdicts.py; docs/reference/verdicts.md).

Shape suffixes: S seeds, N items (and draws of demonstrations), C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Confidence of intervals; significant = p-value of at most 1 - this."""
POWER = 0.8
"""Probability with which the smallest detectable effect is detected."""
QUARTILE = 0.75
"""Quantile of the confidence distribution of the seeds' mean square that degrees of freedom are computed with."""
ROUNDING = 1e-12
"""Relative size up to which a spread is due to rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Values of one term, which enters the mean with a weight."""

    weight: float
    values: Floats
    """(S, N): one column per item; a single one for a value without items, such as a loss."""
    clusters: tuple[str, ...] | None = None
    """Cluster of each item; None: a value without items."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A weighted sum of means over seeds and items."""

    mean: float
    stderr: float | None
    """Standard error over seeds and items; None if it is not known, for one seed without items."""
    df: float | None
    """Degrees of freedom of the error."""
    by_seed: tuple[float, ...]
    num_items: int
    """Largest number of items of a part; 0: no items."""
    num_clusters: int
    over: str
    """What the error covers: seeds and items, items, seeds, or an empty string if it is not known."""

    def p_above(self, threshold: float) -> float:
        """Return the p-value of the hypothesis that the true mean is at most a threshold."""
        from scipy.special import stdtr  # 0.4 s

        if self.stderr is None or self.df is None:
            return 1.0
        if self.stderr == 0:
            return float(self.mean <= threshold)
        return float(stdtr(self.df, (threshold - self.mean) / self.stderr))

    def p_below(self, threshold: float) -> float:
        """Return the p-value of the hypothesis that the true mean is at least a threshold."""
        return self.negated().p_above(-threshold)

    def negated(self) -> Estimate:
        """Return the estimate of the negative mean."""
        return Estimate(
            mean=-self.mean,
            stderr=self.stderr,
            df=self.df,
            by_seed=tuple(-value for value in self.by_seed),
            num_items=self.num_items,
            num_clusters=self.num_clusters,
            over=self.over,
        )

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Return the two-sided confidence interval of the mean; None without an error."""
        from scipy.special import stdtrit

        if self.stderr is None or self.df is None:
            return None
        half = float(stdtrit(self.df, (1 + confidence) / 2)) * self.stderr
        return self.mean - half, self.mean + half

    def detectable(self, level: float = 1 - CONFIDENCE, power: float = POWER) -> float | None:
        """Return the smallest true difference from 0 that a two-sided test detects with a probability of `power`.

        Args:
            level: largest p-value that is significant.
            power: probability of detection, by the noncentral t-distribution.
        """
        from scipy.special import nctdtrinc, stdtrit

        if self.stderr is None or self.df is None:
            return None
        return float(nctdtrinc(self.df, 1 - power, stdtrit(self.df, 1 - level / 2))) * self.stderr

    def provable_margin(self, level: float = 1 - CONFIDENCE, power: float = POWER) -> float | None:
        """Return the smallest margin within which two one-sided tests show a mean of 0 with a probability of `power`."""
        from scipy.special import stdtrit

        if self.stderr is None or self.df is None:
            return None
        return float(stdtrit(self.df, 1 - level) + stdtrit(self.df, (1 + power) / 2)) * self.stderr


@dataclass(frozen=True, kw_only=True)
class MeanSquares:
    """Mean squares of the two-way analysis of variance without repetition."""

    seeds: float
    clusters: float
    rest: float
    num_seeds: int
    num_clusters: int

    @classmethod
    def of(cls, by_seed_S: Floats, deviations_SC: Floats) -> MeanSquares:
        """Compute the mean squares; the seeds' is that of all parts, also of those without items."""
        num_seeds, num_clusters = deviations_SC.shape
        of_cluster_C = deviations_SC.mean(axis=0)
        rest_SC = deviations_SC - deviations_SC.mean(axis=1, keepdims=True) - of_cluster_C + of_cluster_C.mean()
        return cls(
            seeds=num_clusters * float(by_seed_S.var(ddof=1)),
            clusters=num_seeds * float(of_cluster_C.var(ddof=1)),
            rest=float((rest_SC**2).sum()) / ((num_seeds - 1) * (num_clusters - 1)),
            num_seeds=num_seeds,
            num_clusters=num_clusters,
        )

    @property
    def variance(self) -> float:
        """Variance of the mean; a negative component of variance counts as 0."""
        sum_of_squares = max(self.seeds, self.rest) + max(self.clusters, self.rest) - self.rest
        return sum_of_squares / (self.num_seeds * self.num_clusters)

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of the variance, at the upper quartile of the seeds' mean square."""
        from scipy.special import chdtri  # of the upper tail

        of_seeds, of_clusters = self.num_seeds - 1, self.num_clusters - 1
        seeds = max(self.seeds, self.rest) * of_seeds / float(chdtri(of_seeds, QUARTILE))
        clusters = max(self.clusters, self.rest)
        squares = seeds**2 / of_seeds + clusters**2 / of_clusters + self.rest**2 / (of_seeds * of_clusters)
        return max(float(of_seeds), (seeds + clusters - self.rest) ** 2 / squares) if squares else float(of_seeds)


def estimate(parts: Sequence[Part]) -> Estimate:
    """Estimate a weighted sum of means.

    Args:
        parts: the terms, with the same seeds in the same order; clusters of the same name are one, also in different parts.

    Raises:
        ValueError: no parts, or different numbers of seeds.
    """
    if not parts or len({len(part.values) for part in parts}) != 1:
        raise ValueError("expected at least one part, and the same seeds for all parts")
    by_seed_S = np.sum([part.weight * part.values.mean(axis=1) for part in parts], axis=0)
    deviations_SC = _deviations(parts)
    stderr, df, over = _error(by_seed_S, deviations_SC, _floor(parts, deviations_SC.shape[1]))
    return Estimate(
        mean=float(by_seed_S.mean()),
        stderr=stderr,
        df=df,
        by_seed=tuple(map(float, by_seed_S)),
        num_items=max((part.values.shape[1] for part in parts if part.clusters is not None), default=0),
        num_clusters=deviations_SC.shape[1],
        over=over,
    )


def _deviations(parts: Sequence[Part]) -> Floats:
    """Return what each cluster adds to the deviation from the mean, times the number of clusters, (S, C)."""
    numbers: dict[str, int] = {}
    for part in parts:
        for name in part.clusters or ():
            numbers.setdefault(name, len(numbers))
    deviations_SC = np.zeros((len(parts[0].values), len(numbers)))
    for part in parts:
        if part.clusters is not None:
            of_item_N = np.array([numbers[name] for name in part.clusters])
            residuals_SN = part.weight * (part.values - part.values.mean()) / len(of_item_N)
            for row_C, residuals_N in zip(deviations_SC, residuals_SN, strict=True):
                row_C += len(numbers) * np.bincount(of_item_N, residuals_N, len(numbers))
    return deviations_SC


def _floor(parts: Sequence[Part], num_clusters: int) -> float:
    """Return the smallest error over items: what happens to one cluster in n can be absent from n clusters.

    Such a cluster differs by the range of the values, 1 for metrics between 0 and 1.
    """
    values = [part.values for part in parts if part.clusters is not None]
    if not values:
        return 0.0
    largest = max(1.0, *(float(values_SN.max() - min(0.0, values_SN.min())) for values_SN in values))
    return largest * max(abs(part.weight) for part in parts) / num_clusters


def _error(by_seed_S: Floats, deviations_SC: Floats, floor: float) -> tuple[float | None, float | None, str]:
    num_seeds, num_clusters = deviations_SC.shape
    if num_clusters < 2:
        return _error_over_seeds(by_seed_S)
    if num_seeds < 2:
        square = float(deviations_SC[0] @ deviations_SC[0]) / (num_clusters - 1)
        return max(floor, math.sqrt(square / num_clusters)), num_clusters - 1.0, "items"
    squares = MeanSquares.of(by_seed_S, deviations_SC)
    over = "seeds and items" if max(squares.seeds, squares.rest) > ROUNDING * squares.clusters else "items"
    return max(floor, math.sqrt(squares.variance)), squares.df, over


def _error_over_seeds(by_seed_S: Floats) -> tuple[float | None, float | None, str]:
    spread = float(by_seed_S.std(ddof=1)) if len(by_seed_S) > 1 else 0.0
    if spread <= ROUNDING * float(np.abs(by_seed_S).max()):  # one seed, or the seed changes nothing
        return None, None, ""
    return spread / math.sqrt(len(by_seed_S)), len(by_seed_S) - 1.0, "seeds"
