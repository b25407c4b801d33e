"""Errors over seeds and items: properties, and simulations with a known truth."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.studies.estimates import Estimate, MeanSquares, Part, estimate

SIZES = {"num_seeds": st.integers(2, 5), "num_items": st.integers(2, 12), "seed": st.integers(0, 999)}


def part(values, weight=1.0, clusters=None):
    values = np.asarray(values, float)
    return Part(weight=weight, values=values, clusters=clusters or tuple(map(str, range(values.shape[1]))))


def simulated(rng, num_seeds, num_items, seeds, items, rest, effect=0.0):
    shape = (num_seeds, num_items)
    return effect + seeds * rng.normal(size=(num_seeds, 1)) + items * rng.normal(size=num_items) + rest * rng.normal(size=shape)


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_levels_in_the_other_order_have_the_negative_effect_and_the_same_error(num_seeds, num_items, seed):
    a, b = np.random.default_rng(seed).random((2, num_seeds, num_items))
    one, other = estimate([part(a), part(b, -1.0)]), estimate([part(b), part(a, -1.0)])
    assert one.mean == pytest.approx(-other.mean)
    assert (one.stderr, one.df) == (pytest.approx(other.stderr), pytest.approx(other.df))
    assert one.p_above(0.1) == pytest.approx(other.p_below(-0.1))


@settings(max_examples=40, deadline=None)
@given(**SIZES, factor=st.floats(1, 9))
def test_the_error_scales_with_the_values_and_ignores_their_order(num_seeds, num_items, seed, factor):
    rng = np.random.default_rng(seed)
    values = 3 * rng.normal(size=(num_seeds, num_items))
    before = estimate([part(values)])
    after = estimate([part(factor * values[rng.permutation(num_seeds)][:, rng.permutation(num_items)])])
    assert after.stderr == pytest.approx(factor * before.stderr)
    assert after.df == pytest.approx(before.df)
    assert num_seeds - 1 <= before.df <= (num_seeds - 1) + (num_items - 1) + (num_seeds - 1) * (num_items - 1)


@settings(max_examples=20, deadline=None)
@given(**SIZES, copies=st.integers(2, 4))
def test_copies_of_an_item_in_one_cluster_add_no_information(num_seeds, num_items, seed, copies):
    values = np.random.default_rng(seed).random((num_seeds, num_items))
    names = tuple(str(index) for index in range(num_items))
    once = estimate([part(values, clusters=names)])
    often = estimate([part(np.tile(values, copies), clusters=names * copies)])
    assert (often.mean, often.stderr, often.df) == (
        pytest.approx(once.mean),
        pytest.approx(once.stderr),
        pytest.approx(once.df),
    )


def test_one_term_in_two_parts_of_the_same_items_is_the_term():
    values = np.random.default_rng(0).random((3, 50))
    whole, halves = estimate([part(values)]), estimate([part(values, 0.5), part(values, 0.5)])
    assert (halves.stderr, halves.df) == (pytest.approx(whole.stderr), pytest.approx(whole.df))


def test_a_level_is_compared_with_itself_without_a_difference():
    values = np.random.default_rng(0).random((3, 50))
    same = estimate([part(values), part(values, -1.0)])
    assert same.mean == 0
    assert same.p_above(0) == same.p_below(0) == pytest.approx(0.5)


def test_the_error_of_one_seed_is_that_of_the_items():
    values = np.random.default_rng(1).normal(size=(1, 400))
    single = estimate([part(values)])
    assert single.over == "items"
    assert single.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(400))
    assert single.df == 399


def test_losses_have_an_error_over_seeds_and_a_single_one_has_none():
    losses = Part(weight=1.0, values=np.array([[0.4], [0.5], [0.6]]))
    several = estimate([losses])
    assert (several.over, several.df, several.num_items) == ("seeds", 2, 0)
    assert several.stderr == pytest.approx(0.1 / math.sqrt(3))
    single = estimate([Part(weight=1.0, values=np.array([[0.4]]))])
    assert (single.stderr, single.interval(), single.detectable(), single.p_above(0)) == (None, None, None, 1.0)


def test_seeds_that_change_nothing_do_not_count_as_seeds():
    values = np.tile(np.random.default_rng(2).random((1, 60)), (3, 1))
    assert estimate([part(values)]).over == "items"
    assert estimate([part(values)]).stderr == pytest.approx(estimate([part(values[:1])]).stderr)


def test_what_no_item_shows_can_still_happen_to_one_in_n():
    perfect, nothing = np.ones((3, 50)), np.zeros((3, 50))
    assert estimate([part(perfect), part(nothing, -1.0)]).stderr == pytest.approx(1 / 50)


def test_parts_of_different_seeds_are_refused():
    with pytest.raises(ValueError, match="the same seeds"):
        estimate([part(np.zeros((2, 3))), part(np.zeros((3, 3)), -1.0)])


VARIANCES = [(0.0, 0.0, 0.5), (0.02, 0.2, 0.45), (0.05, 0.2, 0.4), (0.2, 0.1, 0.2)]


@pytest.mark.parametrize(("seeds", "items", "rest"), VARIANCES)
def test_equal_models_differ_significantly_in_at_most_5_percent_of_studies(seeds, items, rest):
    rng = np.random.default_rng(7)
    tried = [estimate([part(5 + 4 * simulated(rng, 3, 64, seeds, items, rest))]) for _ in range(600)]
    p_values = np.array([2 * min(each.p_above(5), each.p_below(5)) for each in tried])
    assert (p_values <= 0.05).mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(tried))


def test_the_standard_error_is_that_of_repeated_studies():
    rng = np.random.default_rng(8)
    tried = [estimate([part(4 * simulated(rng, 4, 40, 0.1, 0.2, 0.4))]) for _ in range(500)]
    spread = np.std([each.mean for each in tried])
    assert math.sqrt(np.mean([each.stderr**2 for each in tried])) == pytest.approx(spread, rel=0.1)


def test_the_smallest_detectable_effect_is_detected_with_80_percent():
    known = Estimate(mean=0, stderr=0.05, df=6, by_seed=(0,), num_items=9, num_clusters=9, over="items")
    rng = np.random.default_rng(9)
    errors = known.stderr * np.sqrt(rng.chisquare(known.df, 4000) / known.df)
    means = known.detectable() + known.stderr * rng.normal(size=4000)
    significant = np.abs(means) / errors > 2.4469  # t(6), 5 %
    assert significant.mean() == pytest.approx(0.8, abs=0.02)


def test_the_example_of_the_reference_is_computed():
    squares = MeanSquares(seeds=0.45, clusters=0.31, rest=0.18, num_seeds=3, num_clusters=128)
    example = Estimate(
        mean=0.63,
        stderr=math.sqrt(squares.variance),
        df=squares.df,
        by_seed=(0.60, 0.63, 0.66),
        num_items=256,
        num_clusters=128,
        over="seeds and items",
    )
    low, high = example.interval()
    page = (Path(__file__).parents[3] / "docs/reference/verdicts.md").read_text()
    for text in (
        f"| {squares.variance:.5f} |",
        f"| {example.stderr:.4f} |",
        f"| {squares.df:.2f} |",
        f"| {example.mean:+.3f}, {example.mean / example.stderr:.1f} |",
        f"| {2 * example.p_above(0):.4f} |",
        f"| {low:+.3f} to {high:+.3f} |",
        f"| {example.detectable():.3f} |",
    ):
        assert text in page
