"""Detection of loss and gradient spikes."""

import math
import random

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


def noisy(steps, level=2.0, width=0.1, seed=0):
    """Losses around a level."""
    chance = random.Random(seed)
    return [level + width * chance.gauss(0, 1) for _ in range(steps)]


def test_a_huge_value_hardly_widens_the_band():
    usual = SpikeBand(OptimConfig())
    assert all(usual.admits(loss, 1.0) for loss in noisy(128))
    assert not usual.admits(1e30, 1.0)
    assert not usual.admits(3.5, 1.0)  # 15 standard deviations
    assert usual.admits(2.3, 1.0)


def test_small_changes_of_equal_values_are_no_spikes():
    level = SpikeBand(CONFIG)
    assert all(level.admits(1.0, 1.0) for _ in range(8))
    assert level.admits(math.nextafter(1, 2), 1.0)
    assert level.admits(1.04, 1.0)
    assert not level.admits(1.2, 1.0)


@pytest.mark.parametrize("change", [0.7, 1.0, 3.0])
def test_a_lasting_change_is_followed(change):
    """Of 7, 10 and 30 standard deviations."""
    band = SpikeBand(OptimConfig())
    losses = noisy(300) + noisy(300, level=2 + change, seed=1)
    decisions = [band.admits(loss, 1.0) for loss in losses]
    assert decisions.count(False) <= 8
    assert not any(decision is False for decision in decisions[:300])
    assert all(decisions[320:])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_batches_that_are_often_outliers_are_no_divergence(share, seed):
    """As on small data that a model knows by heart: most losses are near zero, some are not."""
    chance, band = random.Random(seed), SpikeBand(OptimConfig())
    for loss in noisy(4000, level=0.2, width=0.005, seed=seed):
        band.admits(loss + (chance.uniform(0.05, 1.0) if chance.random() < share else 0), 1.0)


def test_values_that_keep_growing_are_a_divergence():
    diverging = band()
    assert not diverging.admits(9, 2)
    assert not diverging.admits(2, 9)
    with pytest.raises(
        DivergedError, match=r"3 of the last 8 steps are spikes .* the loss is 70, above .*spike_limit=2"
    ) as end:
        diverging.admits(70, 2)
    assert end.value.outcome is Outcome.DIVERGED
    exploding = SpikeBand(OptimConfig())
    assert all(exploding.admits(loss, 1.0) for loss in noisy(128))
    with pytest.raises(DivergedError, match="9 of the last 128 steps"):
        for step in range(20):
            exploding.admits(4 * 2.0**step, 1.0)


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
