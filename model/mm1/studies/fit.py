"""The law of the learning rate, refitted: the best rate of each size, and a line through them in log space.

::

    losses of sizes x rates x seeds -> mean over seeds -> parabola in ln(rate) through the best rate and its neighbours
        -> best rate of each size -> ln(rate) = slope ln(N) + intercept

The paper fitted 8-shot scores, since the loss did not follow downstream quality (MM1 4); both are possible here. Errors of
the best rates are bootstrap errors over seeds; intervals of slope and intercept are those of the linear regression, with
Student's t for the number of sizes minus two, so that they include all causes of scatter around the line.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, stdev

import numpy as np

from mm1.errors import ConfigurationError
from mm1.manifests import Record

SLOPE, INTERCEPT = -0.4214, -0.5535
"""Of the paper's law (MM1 4)."""
RESAMPLES = 200
MIN_SIZES = 3
"""A line through two points says nothing about its error."""
MIN_RATES = 3


@dataclass(frozen=True)
class Trial:
    """A training with one learning rate."""

    size: float
    """N: non-embedding parameters of the decoder."""
    rate: float
    """Peak learning rate."""
    seed: int
    value: float
    """Loss; or a score, of which the highest is the best."""


class Optimum(Record):
    """The best learning rate of a size."""

    size: float
    rate: float
    stderr: float | None
    """Standard error of ln(rate), over seeds; None with one seed."""
    values: dict[float, float]
    """Rate -> mean over seeds."""


class Law(Record):
    """ln(rate) = slope ln(N) + intercept."""

    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    """95 %."""
    intercept_interval: tuple[float, float]
    optima: tuple[Optimum, ...]

    def rate(self, size: float) -> float:
        """Return the best learning rate of a size."""
        return math.exp(self.slope * math.log(size) + self.intercept)


class LawResult(Record):
    """The law by one score; or why there is none."""

    score: str
    law: Law | None = None
    refused: str = ""


def fit_law(trials: Sequence[Trial], *, lower_is_better: bool, failed: Sequence[tuple[float, float]] = ()) -> Law:
    """Fit the law.

    Args:
        trials: a grid of sizes and rates, with one or more seeds.
        lower_is_better: whether the values are losses.
        failed: sizes and rates without a result, such as those that diverged.

    Raises:
        ConfigurationError: too few sizes or rates, or a best rate at the end of its grid; the message names what to add.
    """
    by_size: dict[float, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_size[trial.size].append(trial)
    if len(by_size) < MIN_SIZES:
        raise ConfigurationError(f"sizes: expected at least {MIN_SIZES}, got {len(by_size)}; add levels of another size")
    optima = tuple(
        best_rate(by_size[size], lower_is_better=lower_is_better, failed=[rate for other, rate in failed if other == size])
        for size in sorted(by_size)
    )
    return line_through(optima)


def best_rate(trials: Sequence[Trial], *, lower_is_better: bool, failed: Sequence[float] = ()) -> Optimum:
    """Find the best learning rate of one size.

    Raises:
        ConfigurationError: fewer than three rates, or the best one is at the end of the grid.
    """
    values = _table(trials, lower_is_better)
    size = trials[0].size
    if len(values) < MIN_RATES:
        raise ConfigurationError(
            f"rates: expected at least {MIN_RATES} with a result for the size {size:,.0f}, got {len(values)}; add levels"
        )
    means = {rate: fmean(by_seed.values()) for rate, by_seed in values.items()}
    if missing := _rate_to_add(means, failed):
        best = min(means, key=means.__getitem__)
        no_result = f" (no result of {', '.join(f'{rate:g}' for rate in sorted(failed))})" if failed else ""
        raise ConfigurationError(
            f"the best learning rate of the size {size:,.0f} is {best:g}, at the end of its grid{no_result}: "
            f"add a level with {missing:.3g}"
        )
    log_rates = [_vertex(_resampled(values, rng)) for rng in _generators(values)]
    curve = {rate: value if lower_is_better else -value for rate, value in means.items()}
    return Optimum(size=size, rate=math.exp(_vertex(means)), stderr=stdev(log_rates) if log_rates else None, values=curve)


def line_through(optima: Sequence[Optimum]) -> Law:
    """Fit a line through best rates in log space, all of the same weight."""
    from scipy.stats import linregress
    from scipy.stats import t as student

    line = linregress([math.log(point.size) for point in optima], [math.log(point.rate) for point in optima])
    width = float(student.ppf(0.975, len(optima) - 2))
    slope, intercept = float(line.slope), float(line.intercept)
    return Law(
        slope=slope,
        intercept=intercept,
        slope_interval=(slope - width * float(line.stderr), slope + width * float(line.stderr)),
        intercept_interval=(intercept - width * float(line.intercept_stderr), intercept + width * float(line.intercept_stderr)),
        optima=tuple(optima),
    )


def _table(trials: Iterable[Trial], lower_is_better: bool) -> dict[float, dict[int, float]]:
    """Arrange the values as rate -> seed -> value, in the order of the rates; lower values are better."""
    table: dict[float, dict[int, float]] = defaultdict(dict)
    for trial in sorted(trials, key=lambda trial: trial.rate):
        table[trial.rate][trial.seed] = trial.value if lower_is_better else -trial.value
    return dict(table)


def _rate_to_add(means: Mapping[float, float], failed: Sequence[float]) -> float | None:
    """Return the rate beyond the end of the grid at which the best one is; None if it is inside.

    If a rate there has failed, it is halfway to that one, as a factor.
    """
    rates = sorted(means)
    best = min(rates, key=means.__getitem__)
    if best == rates[0]:
        below = max((rate for rate in failed if rate < best), default=rates[0] ** 3 / rates[1] ** 2)
        return math.sqrt(best * below)
    if best == rates[-1]:
        above = min((rate for rate in failed if rate > best), default=rates[-1] ** 3 / rates[-2] ** 2)
        return math.sqrt(best * above)
    return None


def _vertex(means: Mapping[float, float]) -> float:
    """Return ln(rate) of the minimum of the parabola through the best rate and its neighbours, never outside of them."""
    rates = sorted(means)
    index = rates.index(min(rates, key=means.__getitem__))
    index = min(max(index, 1), len(rates) - 2)
    near = rates[index - 1 : index + 2]
    logs = np.log(near)
    curve = np.polynomial.Polynomial.fit(logs, [means[rate] for rate in near], 2).convert().coef
    second = curve[2] if len(curve) > 2 else 0.0
    if second <= 0:  # in a resample, whose best rate can be at the end of the grid
        return math.log(min(near, key=means.__getitem__))
    return float(np.clip(-curve[1] / (2 * second), logs[0], logs[-1]))


def _generators(values: Mapping[float, Mapping[int, float]]) -> Iterable[Random]:
    num_seeds = min(len(by_seed) for by_seed in values.values())
    return (Random(f"learning rate {number}") for number in range(RESAMPLES if num_seeds > 1 else 0))


def _resampled(values: Mapping[float, Mapping[int, float]], rng: Random) -> dict[float, float]:
    """Return means over seeds that are drawn with replacement, the same seeds at all rates where they have them."""
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    drawn = rng.choices(seeds, k=len(seeds))
    means = {}
    for rate, by_seed in values.items():
        known = [by_seed[seed] for seed in drawn if seed in by_seed]
        means[rate] = fmean(known or by_seed.values())
    return means
