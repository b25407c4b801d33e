"""The law of the learning rate is recovered from data made with a known one; ends of the grid are refused."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mm1.errors import ConfigurationError
from mm1.studies.fit import INTERCEPT, SLOPE, Trial, best_rate, fit_law
from mm1.train.schedule import learning_rate_law

SIZES = (9e6, 85e6, 302e6, 1.2e9)


def grid(slope, intercept, sizes=SIZES, seeds=(0,), noise=0.0, step=2.0, sign=1.0):
    """Losses with a parabola in ln(rate) around a law, on a grid of five rates that is off by a third of a step."""
    random = np.random.default_rng(0)
    trials = []
    for size in sizes:
        best = slope * math.log(size) + intercept
        for number in range(-2, 3):
            rate = math.exp(best + (number + 1 / 3) * math.log(step))
            value = 2 + 0.05 * (math.log(rate) - best) ** 2
            trials += [Trial(size, rate, seed, sign * (value + noise * random.standard_normal())) for seed in seeds]
    return trials


@settings(max_examples=30, deadline=None)
@given(st.floats(-1, 0.5), st.floats(-4, 2), st.floats(1.5, 4), st.sampled_from([1.0, -1.0]))
def test_a_known_law_is_recovered(slope, intercept, step, sign):
    law = fit_law(grid(slope, intercept, step=step, sign=sign), lower_is_better=sign > 0)
    assert law.slope == pytest.approx(slope, abs=1e-6)
    assert law.intercept == pytest.approx(intercept, abs=1e-4)


def test_the_law_of_the_paper():
    law = fit_law(grid(SLOPE, INTERCEPT), lower_is_better=True)
    assert law.rate(3e9) == pytest.approx(learning_rate_law(3_000_000_000), rel=1e-4)
    assert [point.size for point in law.optima] == sorted(SIZES)


def test_intervals_cover_the_truth_and_grow_with_noise():
    laws = [fit_law(grid(SLOPE, INTERCEPT, seeds=range(3), noise=noise), lower_is_better=True) for noise in (0.001, 0.004)]
    widths = [law.slope_interval[1] - law.slope_interval[0] for law in laws]
    assert 0 < widths[0] < widths[1]
    assert all(law.slope_interval[0] < SLOPE < law.slope_interval[1] for law in laws)
    assert all(point.stderr > 0 for law in laws for point in law.optima)


@pytest.mark.parametrize("rates, best, missing", [((1e-3, 2e-3, 4e-3), 1e-3, "0.0005"), ((1e-3, 2e-3, 4e-3), 4e-3, "0.008")])
def test_a_best_rate_at_the_end_names_the_rate_to_add(rates, best, missing):
    trials = [Trial(1e6, rate, 0, abs(math.log(rate / best))) for rate in rates]
    with pytest.raises(ConfigurationError, match=f"is {best:g}, at the end of its grid: add a level with {missing}"):
        best_rate(trials, lower_is_better=True)


def test_rates_that_failed_are_named_and_a_rate_before_them_is_to_be_added():
    trials = [Trial(1e6, rate, 0, abs(math.log(rate / 4e-3))) for rate in (1e-3, 2e-3, 4e-3)]
    message = r"is 0.004, at the end of its grid \(no result of 0.008, 0.016\): add a level with 0.00566"
    with pytest.raises(ConfigurationError, match=message):
        best_rate(trials, lower_is_better=True, failed=[0.016, 0.008])


def test_the_order_of_rates_does_not_matter():
    trials = grid(SLOPE, INTERCEPT, seeds=range(2), noise=0.001)
    assert fit_law(trials[::-1], lower_is_better=True) == fit_law(trials, lower_is_better=True)


def test_too_few_sizes_or_rates():
    with pytest.raises(ConfigurationError, match="sizes: expected at least 3, got 2"):
        fit_law(grid(SLOPE, INTERCEPT, sizes=SIZES[:2]), lower_is_better=True)
    with pytest.raises(ConfigurationError, match="rates: expected at least 3 with a result for the size 5, got 2"):
        best_rate([Trial(5, 1e-3, 0, 1.0), Trial(5, 2e-3, 0, 1.1)], lower_is_better=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.5, 3), min_size=3, max_size=7))
def test_a_best_rate_is_between_the_neighbours_of_the_best(values):
    trials = [Trial(1e6, 1e-3 * 2**number, 0, value) for number, value in enumerate(values)]
    index = values.index(min(values))
    if index in (0, len(values) - 1):
        with pytest.raises(ConfigurationError, match="at the end of its grid"):
            best_rate(trials, lower_is_better=True)
        return
    rate = best_rate(trials, lower_is_better=True).rate
    assert trials[index - 1].rate <= rate <= trials[index + 1].rate
