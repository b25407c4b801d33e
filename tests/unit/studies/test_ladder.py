"""A scaling law is recovered from data made with a known one, and predicts the next size within its interval."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mm1.errors import ConfigurationError
from mm1.studies.ladder import Rung, fit_curve

SIZES = (4e4, 9e4, 1.6e5, 3.7e5, 6.6e5)
NEXT = 1.5e6


def rungs(floor, exponent, noise=0.0, seeds=3, seed=0, tokens=(6e5,), token_exponent=0.3):
    random = np.random.default_rng(seed)

    def loss(size, number):
        varying = 0.2 * (number / 6e5) ** -token_exponent if len(tokens) > 1 else 0.0
        return floor + 0.5 * (size / 1e5) ** -exponent + varying

    points = [(size, number) for size in (*SIZES, NEXT) for number in tokens for _ in range(seeds)]
    trials = [
        Rung(size=size, tokens=number, loss=loss(size, number) + noise * random.standard_normal()) for size, number in points
    ]
    known = [rung for rung in trials if rung.size != NEXT]
    return known, loss


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 2), st.floats(0.15, 1.2))
def test_a_known_law_predicts_the_next_size(floor, exponent):
    known, loss = rungs(floor, exponent)
    curve = fit_curve(known)
    assert curve.loss(NEXT, 6e5) == pytest.approx(loss(NEXT, 6e5), abs=1e-4)
    assert curve.parameters[2] == pytest.approx(exponent, abs=0.02)


def test_tokens_are_part_of_the_law_if_they_vary():
    known, loss = rungs(1.0, 0.5, tokens=(3e5, 6e5, 1.2e6))
    curve = fit_curve(known)
    assert curve.loss(NEXT, 2.4e6) == pytest.approx(loss(NEXT, 2.4e6), abs=1e-3)
    assert curve.parameters[4] == pytest.approx(0.3, abs=0.02)


def test_intervals_have_their_coverage():
    hits = 0
    for seed in range(40):
        known, loss = rungs(1.0, 0.5, noise=0.01, seed=seed)
        random = np.random.default_rng([seed, 1])
        measured = loss(NEXT, 6e5) + 0.01 * random.standard_normal(3).mean()
        prediction = fit_curve(known).predict(NEXT, 6e5, 3)
        hits += prediction.holds(measured)
    assert 34 <= hits <= 40


def test_fewer_sizes_than_the_law_needs():
    known, _ = rungs(1.0, 0.5)
    with pytest.raises(ConfigurationError, match=r"at least 4 below .* more than 3 cells, got 3 and 9"):
        fit_curve([rung for rung in known if rung.size < 3e5])
