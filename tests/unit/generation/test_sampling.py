"""Sampling is exact for any settings, and each answer's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.generation.config import Sampling
from mm1.generation.sampling import TokenChooser, choose

TINY = st.floats(min_value=5e-324, max_value=1e-30)


@settings(max_examples=200, deadline=None)
@given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    temperature=st.floats(0, 2) | TINY,
    top_p=st.floats(0, 1, exclude_min=True) | TINY,
    seed=st.integers(-(2**70), 2**70) | st.none(),
)
def test_any_settings_give_a_likely_token(logits, temperature, top_p, seed):
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    (token,) = choose(torch.tensor([logits]), [TokenChooser(sampling)])
    assert 0 <= token < len(logits)
    if temperature == 0 or top_p <= 1 / len(logits):
        assert logits[token] >= max(logits) - 1e-6  # equally likely after rounding


def test_suppressed_tokens_are_never_chosen():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    assert {choose(logits, [TokenChooser(Sampling(temperature=2, seed=n))])[0] for n in range(50)} == {1}


def test_logits_that_are_not_numbers_are_refused():
    with pytest.raises(ArithmeticError, match="not numbers"):
        choose(torch.tensor([[0.0, torch.nan]]), [TokenChooser(Sampling())])


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_tokens_have_the_frequencies_of_their_probabilities(top_p):
    probabilities = np.array([0.1, 0.4, 0.2, 0.3])
    chooser = TokenChooser(Sampling(temperature=0.5, top_p=top_p, seed=1))
    # at half the temperature the probabilities are proportional to the squares
    expected = probabilities**2 * (np.array([0, 1, 0, 1]) if top_p < 1 else 1)
    logits = np.log(probabilities)
    drawn = np.bincount([chooser.sample(logits) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.03)


def test_an_answer_of_a_seed_does_not_depend_on_the_rows_next_to_it():
    logits = torch.randn(6, 3, 100, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=1, top_p=0.9, seed=7)
    alone, among = TokenChooser(sampling), TokenChooser(sampling)
    others = [TokenChooser(Sampling(temperature=1)), TokenChooser(Sampling())]
    expected = [choose(step[1:2], [alone])[0] for step in logits]
    assert [choose(step, [others[0], among, others[1]])[1] for step in logits] == expected


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, 2**64, -(2**63), -1, 2**200])
def test_any_integer_is_a_seed(seed):
    sampling = Sampling(temperature=1, seed=seed)
    first, again = (TokenChooser(sampling).sample(np.zeros(1000)) for _ in range(2))
    assert first == again


def test_answers_to_one_prompt_have_seeds_of_their_own():
    sampling = Sampling(temperature=1, seed=-5)
    assert sampling.of_answer(0) == sampling
    assert len({sampling.of_answer(n).seed for n in range(100)}) == 100
    assert sampling.of_answer(3) == sampling.of_answer(3)
    assert Sampling(temperature=1).of_answer(3).seed is None
