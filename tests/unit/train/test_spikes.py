import math

import pytest

from mm1.errors import DivergedError, Outcome
from mm1.train.config import OptimConfig
from mm1.train.spikes import SpikeBand

CONFIG = OptimConfig(spike_window=8, spike_sigmas=3, spike_limit=2)


def band(config=CONFIG, steps=8, **keywords):
    """A band after steps with losses and norms of 1.9 and 2.1 in turn: mean 2, standard deviation 0.1."""
    filled = SpikeBand(config, **keywords)
    assert all(filled.admits(2 + 0.1 * (-1) ** step, 2 - 0.1 * (-1) ** step) for step in range(steps))
    return filled


@pytest.mark.parametrize(
    ("loss", "norm", "admitted"),
    [(2.29, 2.29, True), (2.31, 2, False), (2, 2.31, False), (0, 0, True), (-5, 0, True), (1e30, 2, False)],
)
def test_only_the_upper_end_of_the_band_counts(loss, norm, admitted):
    assert band().admits(loss, norm) is admitted


def test_nothing_is_skipped_before_the_window_is_full_or_without_a_window():
    assert band(steps=7).admits(100, 100)
    assert all(SpikeBand(OptimConfig(spike_window=0)).admits(10.0**step, 1) for step in range(20))


def test_a_norm_of_updates_is_not_judged():
    assert band(with_norm=False).admits(2, 1e9)
    assert not band(with_norm=False).admits(3, 2)


def test_a_skipped_step_does_not_move_the_band():
    after = band()
    assert not after.admits(50, 50)
    assert not after.admits(2.4, 2)
    assert after.admits(2.2, 2)


def test_rounding_errors_of_equal_values_are_no_spikes():
    level = SpikeBand(CONFIG)
    assert all(level.admits(1.0, 1.0) for _ in range(8))
    assert level.admits(math.nextafter(1, 2), 1.0)
    assert level.admits(1.009, 1.0)
    assert not level.admits(1.02, 1.0)


def test_too_many_spikes_are_a_divergence():
    diverging = band()
    assert [diverging.admits(9, 2), diverging.admits(2, 9)] == [False, False]
    with pytest.raises(
        DivergedError, match=r"3 of the last 8 steps are spikes .* the loss is 7, above 2.3.*spike_limit=2"
    ) as end:
        diverging.admits(7, 2)
    assert end.value.outcome is Outcome.DIVERGED


def test_spikes_that_are_long_ago_do_not_count():
    recovered = band()
    for _ in range(5):
        assert not recovered.admits(9, 2)
        assert all(recovered.admits(2 + 0.1 * (-1) ** step, 2) for step in range(7))


def test_a_band_from_the_history_decides_as_the_one_that_wrote_it():
    config = OptimConfig(spike_window=8, spike_sigmas=1.5, spike_limit=8)
    values = [(2 + math.sin(7 * step), 2 + math.cos(5 * step)) for step in range(60)]
    whole, rows, decisions = SpikeBand(config), [], []
    for loss, norm in values:
        decisions.append(whole.admits(loss, norm))
        rows.append({"loss": loss, "grad_norm": norm, "applied": int(decisions[-1])})
    assert {True, False} == set(decisions)
    for cut in (1, 8, 20, 41):
        resumed = SpikeBand(config, rows[:cut])
        assert [resumed.admits(*value) for value in values[cut:]] == decisions[cut:]
