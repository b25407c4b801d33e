"""Means over items with standard errors. Torch-free.

Items that are not independent, such as several questions about one image, form a cluster, and errors are those of clusters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean, stdev

NUM_RESAMPLES = 200
"""Bootstrap resamples for the standard error of a metric that is not a mean."""


def mean_and_stderr(values: Sequence[float], clusters: Sequence[str] | None = None, num_draws: int = 1) -> tuple[float, float]:
    """Compute the mean and its standard error.

    Args:
        values: values of items; with several draws, those of the first draw, then of the second, and so on.
        clusters: name of each value's cluster; None: each item is one.
        num_draws: number of draws of demonstrations of each item.

    Returns:
        The mean, and the standard error over clusters and draws; for a single cluster the error is unknown, and 0 is returned.
    """
    mean = fmean(values)
    num_items = len(values) // num_draws
    names = [str(number % num_items) for number in range(len(values))] if clusters is None else clusters
    sums: dict[str, float] = defaultdict(float)
    for value, name in zip(values, names, strict=True):
        sums[name] += value - mean
    if len(sums) < 2:
        return mean, 0.0
    of_clusters = len(sums) / (len(sums) - 1) * sum(total**2 for total in sums.values()) / len(values) ** 2
    of_draws = 0.0
    if num_draws > 1:
        means = [fmean(values[draw * num_items : (draw + 1) * num_items]) for draw in range(num_draws)]
        of_draws = stdev(means) ** 2 / num_draws
    return mean, math.sqrt(of_clusters + of_draws)


def bootstrap_stderr(metric: Callable[[Sequence[int]], float], clusters: Sequence[str], seed: int = 0) -> float:
    """Estimate the standard error of a metric by sampling clusters with replacement.

    Args:
        metric: row numbers -> value.
        clusters: name of each row's cluster.
        seed: seed of the resamples.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(clusters):
        rows_of[name].append(row)
    groups = list(rows_of.values())
    if len(groups) < 2:
        return 0.0
    rng = Random(f"{seed} bootstrap {len(clusters)}")
    samples = [metric([row for group in rng.choices(groups, k=len(groups)) for row in group]) for _ in range(NUM_RESAMPLES)]
    return stdev(samples)
