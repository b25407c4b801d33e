"""Means with errors, and differences of two models on the same items."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from mm1.evals.paired import Pairs, paired_difference
from mm1.evals.statistics import bootstrap_stderr, mean_and_stderr


def binomial_tail(count: int, share: float, most: int) -> float:
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(most + 1))


@pytest.mark.parametrize(
    ("count", "margin", "losses"), [(100, 0.03, 0), (100, 0.03, 1), (50, 0.05, 3), (256, 0.02, 2), (8, 0.3, 1)]
)
def test_losses_of_single_items_have_the_p_value_of_the_binomial_test(count, margin, losses):
    pairs = Pairs.of([0.0] * losses + [1.0] * (count - losses), [1.0] * count)
    assert pairs.p_value(-margin) == pytest.approx(binomial_tail(count, margin, losses), rel=1e-3)


def test_the_p_value_is_that_of_resampling_the_clusters():
    rng = np.random.default_rng(3)
    a, b = rng.random(60), rng.random(60)
    clusters = rng.integers(0, 25, 60).tolist()
    pairs, threshold = Pairs.of(a.tolist(), b.tolist(), clusters), -0.12
    excess = pairs.totals - threshold * pairs.sizes
    values = np.append(excess, (-1 - threshold) * (pairs.sizes @ pairs.sizes) / 60)
    low, high = -50.0, 50.0
    for _ in range(100):
        tilt = (low + high) / 2
        weights = np.exp(tilt * values) / np.exp(tilt * values).sum()
        low, high = (low, tilt) if weights @ values > 0 else (tilt, high)
    drawn = rng.multinomial(pairs.num_clusters, weights, size=40_000) @ values
    assert pairs.p_value(threshold) == pytest.approx((drawn >= excess.sum() - pairs.step / 2).mean(), abs=0.01)


def test_the_interval_is_that_of_the_p_values_and_close_to_the_normal_one():
    rng = np.random.default_rng(0)
    a = rng.normal(0.6, 0.1, 400).tolist()
    b = rng.normal(0.58, 0.1, 400).tolist()
    difference = paired_difference(a, b)
    assert difference.low == pytest.approx(difference.mean - 1.96 * difference.stderr, abs=0.002)
    assert difference.high == pytest.approx(difference.mean + 1.96 * difference.stderr, abs=0.002)
    assert Pairs.of(a, b).p_value(difference.low) == pytest.approx(0.025, abs=1e-3)
    swapped = paired_difference(b, a)
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx((-difference.mean, -difference.high, -difference.low))
    assert swapped.p_value == pytest.approx(difference.p_value)


def test_items_of_one_image_count_as_one():
    rng = np.random.default_rng(1)
    a, b = rng.random(100).tolist(), rng.random(100).tolist()
    names = [f"image {number}" for number in range(100)]
    alone, copied = paired_difference(a, b, names), paired_difference(a * 5, b * 5, names * 5)
    assert copied.num_items == 500 and copied.num_clusters == 100
    assert (copied.mean, copied.stderr, copied.low) == pytest.approx((alone.mean, alone.stderr, alone.low), abs=1e-3)


def test_equal_answers_on_few_items_show_little():
    same = [1.0] * 30
    difference = paired_difference(same, same)
    assert difference.mean == difference.stderr == 0 and difference.p_value == 1.0
    assert Pairs.of(same, same).lower_bound() == pytest.approx(-(1 - 0.05 ** (1 / 30)), abs=1e-4), "the rule of three"
    assert Pairs.of(same, same).smallest_effect() == pytest.approx(1 - 0.05 ** (1 / 30))
    assert Pairs.of(same, same).items_needed(0.02) == 149


def test_the_items_needed_detect_the_effect():
    rng = np.random.default_rng(2)
    a, b = rng.random(200).tolist(), rng.random(200).tolist()
    needed = Pairs.of(a, b).items_needed(0.02)
    repeated = math.ceil(needed / 200)
    assert Pairs.of(a * repeated, b * repeated).smallest_effect() == pytest.approx(0.02, rel=0.05)
    assert Pairs.of(a, b).smallest_effect() > 0.02


def test_a_metric_without_an_upper_limit_takes_the_range_of_its_values():
    assert Pairs.of([0.0, 8.0], [1.0, 9.0]).worst == 9.0
    assert Pairs.of([0.2, 0.8], [0.1, 0.9]).worst == 1.0
    assert Pairs.of([-3.0, 0.8], [0.1, 0.9]).worst == pytest.approx(3.9)
    # the same numbers in another unit have the same p-value
    rng = np.random.default_rng(4)
    a, b = rng.random(50), rng.random(50)
    b[0] = 1.0
    p = Pairs.of(a.tolist(), b.tolist()).p_value(-0.05)
    assert Pairs.of((100 * a).tolist(), (100 * b).tolist()).p_value(-5) == pytest.approx(p, rel=1e-6)


def test_one_cluster_shows_nothing():
    pairs = Pairs.of([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], ["image"] * 3)
    assert math.isnan(pairs.stderr) and pairs.smallest_effect() == math.inf
    assert pairs.p_value(0.0) > 0.49
    with pytest.raises(ValueError, match="at least two clusters"):
        pairs.items_needed(0.1)


@pytest.mark.parametrize(
    ("a", "b", "clusters"), [([], [], None), ([1.0], [1.0, 0.0], None), ([1.0], [math.nan], None), ([1.0], [1.0], ["x", "y"])]
)
def test_values_that_cannot_be_paired_are_refused(a, b, clusters):
    with pytest.raises(ValueError, match="expected"):
        paired_difference(a, b, clusters)


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_at_the_edge_of_what_is_possible(sign):
    all_lost = Pairs.of([0.0] * 20, [1.0] * 20)
    pairs = all_lost if sign > 0 else all_lost.reversed()
    assert pairs.mean == -sign and -1 <= pairs.lower_bound() <= pairs.mean
    assert pairs.p_value(-1.0) in (0.0, 1.0), "no item can lose more than everything"


def test_the_error_of_a_mean_is_that_of_its_clusters():
    values = [float(x) for x, _ in product((0, 1), range(50))]
    assert mean_and_stderr(values) == pytest.approx((0.5, 0.5 / math.sqrt(99)), rel=1e-6)
    assert mean_and_stderr(values, ["a"] * 50 + ["b"] * 50) == pytest.approx((0.5, 0.5))
    assert mean_and_stderr([0.25]) == (0.25, 0.0)
    error = bootstrap_stderr(lambda rows: sum(values[row] for row in rows) / len(rows), [str(row) for row in range(100)])
    assert error == pytest.approx(0.05, rel=0.2)
