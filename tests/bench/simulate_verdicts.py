"""How often equal models differ significantly, by the number of seeds: python tests/bench/simulate_verdicts.py (2 minutes).

Mean squares are drawn from their distributions, for several numbers of clusters and shares of the variances. The largest
rate of significant differences at 5 % is printed, also with the degrees of freedom as Satterthwaite has them.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from scipy.special import stdtr

from mm1.studies import estimates
from mm1.studies.estimates import MeanSquares

SEEDS, CLUSTERS = (2, 3, 5, 10), (50, 256, 700)
DEVIATIONS = (
    *((0.0, 0.0, 0.5), (0.0, 0.3, 0.4), (0.02, 0.2, 0.45), (0.03, 0.2, 0.45)),
    *((0.05, 0.2, 0.45), (0.1, 0.2, 0.4), (0.07, 0.3, 0.3), (0.2, 0.2, 0.2)),
)
"""Standard deviations of seeds, clusters and rest."""
STUDIES = 20_000


def rate(rng: np.random.Generator, num_seeds: int, num_clusters: int, deviations: tuple[float, float, float]) -> float:
    """Share of studies without an effect that have a significant one."""
    of_seeds, of_clusters, of_rest = (deviation**2 for deviation in deviations)
    freedom = (num_seeds - 1, num_clusters - 1, (num_seeds - 1) * (num_clusters - 1))
    expected = (of_rest + num_clusters * of_seeds, of_rest + num_seeds * of_clusters, of_rest)
    squares = [mean * rng.chisquare(df, STUDIES) / df for mean, df in zip(expected, freedom, strict=True)]
    spread = math.sqrt(of_seeds / num_seeds + of_clusters / num_clusters + of_rest / (num_seeds * num_clusters))
    effects = rng.normal(0, spread, STUDIES)
    significant = 0
    for effect, seeds, clusters, rest in zip(effects, *squares, strict=True):
        each = MeanSquares(seeds=seeds, clusters=clusters, rest=rest, num_seeds=num_seeds, num_clusters=num_clusters)
        significant += 2 * stdtr(each.df, -abs(effect) / math.sqrt(each.variance)) <= 0.05
    return significant / STUDIES


def main() -> None:
    """Print a table."""
    usual = estimates.QUARTILE
    print("seeds  at the upper quartile  as Satterthwaite")
    for num_seeds in SEEDS:
        largest = []
        for mean_or_quartile in (usual, None):
            estimates.QUARTILE = mean_or_quartile or _quantile_of_mean(num_seeds - 1)
            rng = np.random.default_rng(0)
            largest.append(max(rate(rng, num_seeds, *setting) for setting in product(CLUSTERS, DEVIATIONS)))
        print(f"{num_seeds:5}  {largest[0]:21.1%}  {largest[1]:15.1%}", flush=True)


def _quantile_of_mean(df: int) -> float:
    """Upper tail of the chi-squared distribution at its mean, with which the mean square is taken as it is."""
    from scipy.special import chdtrc

    return float(chdtrc(df, df))


if __name__ == "__main__":
    main()
