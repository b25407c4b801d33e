"""Learning-rate schedules, and the paper's law for the peak rate."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.batch_plan import plan_batch
from mm1.train.config import ScheduleConfig
from mm1.train.progress import Progress
from mm1.train.schedule import learning_rate_law, rate_factor, warmup_steps


@pytest.mark.parametrize(
    ("num_parameters", "printed"),
    [(9e6, 6.7e-4), (85e6, 2.6e-4), (302e6, 1.5e-4), (1.2e9, 8.6e-5), (3e9, 5.8e-5), (7e9, 4.1e-5), (30e9, 2.2e-5)],
)
def test_the_law_gives_the_papers_learning_rates(num_parameters, printed):
    assert float(f"{learning_rate_law(int(num_parameters)):.1e}") == printed


def test_the_law_refuses_a_model_without_parameters():
    with pytest.raises(ConfigurationError, match=r"optim\.lr=law"):
        learning_rate_law(0)


def test_the_papers_schedule():
    paper = ScheduleConfig()
    steps = 200_000
    assert warmup_steps(paper, steps) == 2000
    assert rate_factor(paper, 0, steps) == pytest.approx(1 / 2000)
    assert rate_factor(paper, 1999, steps) == 1.0
    assert rate_factor(paper, 2000 + (steps - 2001) // 2, steps) == pytest.approx(0.55, abs=1e-3)
    assert rate_factor(paper, steps - 1, steps) == pytest.approx(0.1)


@given(st.integers(1, 500), st.integers(0, 100), st.floats(0, 1))
def test_the_rate_rises_then_falls_and_stays_positive(steps, warmup, final_share):
    schedule = ScheduleConfig(warmup_steps=warmup, final_share=final_share)
    factors = [rate_factor(schedule, step, steps) for step in range(steps)]
    peak = warmup_steps(schedule, steps)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert steps == 1 or math.isclose(factors[-1], final_share, abs_tol=1e-12) or steps - peak <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 300), st.floats(0, 1))
def test_a_schedule_in_tokens_follows_the_tokens(per_step, warmup, final_share):
    total = warmup + 500
    schedule = ScheduleConfig(unit="tokens", warmup_tokens=warmup, total_tokens=total, final_share=final_share)
    tokens, factors = 0, []
    for step, count in enumerate(per_step):
        factors.append((tokens, rate_factor(schedule, step, 1000, tokens)))
        tokens += count
    assert all(0 < factor <= 1 or final_share == 0 for _, factor in factors)
    assert rate_factor(schedule, 10, 1000, total) == pytest.approx(final_share)
    even = [rate_factor(schedule, step, total // 10, 10 * step) for step in range(total // 10)]
    peak = max(even)
    assert peak == pytest.approx(1, abs=0.05)
    rise = even[: even.index(peak) + 1]
    assert rise == sorted(rise)
    assert even[even.index(peak) :] == sorted(even[even.index(peak) :], reverse=True)


@st.composite
def wsd_schedules(draw, unit):
    """A schedule with a late decay that fits, and the length of its run in `unit`."""
    warmup, stable, decay = draw(st.integers(0, 100)), draw(st.integers(0, 300)), draw(st.integers(1, 200))
    curve, final_share = draw(st.sampled_from(["linear", "1-sqrt"])), draw(st.floats(0, 1))
    total = warmup + stable + decay
    lengths = {f"warmup_{unit}": warmup, f"decay_{unit}": decay} | ({"total_tokens": total} if unit == "tokens" else {})
    return ScheduleConfig(shape="wsd", unit=unit, decay_curve=curve, final_share=final_share, **lengths), total


@given(wsd_schedules("steps"))
def test_a_late_decay_in_steps(case):
    schedule, steps = case
    schedule.check(steps)
    factors = [rate_factor(schedule, step, steps) for step in range(steps)]
    warmup, decay = schedule.warmup_steps, schedule.decay_steps
    assert all(0 < factor <= 1 for factor in factors[:-1])
    assert factors[:warmup] == [(step + 1) / warmup for step in range(warmup)]
    assert set(factors[warmup : steps - decay]) <= {1.0}
    assert factors[-1] == pytest.approx(schedule.final_share, abs=1e-15)
    falling = [1.0, *factors[steps - decay :]]
    assert falling == sorted(falling, reverse=True)
    drops = [before - after for before, after in itertools.pairwise(falling)]
    limit = 1 / decay if schedule.decay_curve == "linear" else math.sqrt(1 / decay)  # the steepest part is the first
    assert max(drops) <= (1 - schedule.final_share) * limit + 1e-12


@given(wsd_schedules("tokens"), st.integers(1, 20))
def test_a_late_decay_in_tokens_is_the_one_in_steps(case, tokens_per_step):
    """With the same number of tokens in each step, a schedule in tokens is that in steps."""
    in_tokens, steps = case
    lengths = {name: getattr(in_tokens, f"{name}_tokens") for name in ("warmup", "decay")}
    same = {"shape": "wsd", "decay_curve": in_tokens.decay_curve, "final_share": in_tokens.final_share}
    in_steps = ScheduleConfig(**same, **{f"{name}_steps": length for name, length in lengths.items()})
    scaled = {f"{name}_tokens": length * tokens_per_step for name, length in {**lengths, "total": steps}.items()}
    in_tokens = ScheduleConfig(**same, unit="tokens", **scaled)
    for step in range(steps):
        assert rate_factor(in_tokens, step, steps, step * tokens_per_step) == pytest.approx(rate_factor(in_steps, step, steps))


@given(st.integers(1, 50), st.integers(1, 200), st.integers(1, 200))
def test_a_longer_run_starts_like_a_shorter_one(warmup, first, more):
    """So that a checkpoint of a constant rate can be continued, at that rate or with a decay."""
    first += warmup
    constant = ScheduleConfig(shape="constant", warmup_steps=warmup)
    decaying = ScheduleConfig(shape="wsd", warmup_steps=warmup, decay_steps=more)
    for step in range(first):
        factor = rate_factor(constant, step, first)
        assert factor == rate_factor(constant, step, first + more) == rate_factor(decaying, step, first + more)
    assert rate_factor(constant, first - 1, first) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("schedule.shape=wsd", "train.steps=20"), r"warmup_steps=30 and a decay of 2 steps exceed train\.steps=20"),
        (("schedule.shape=wsd", "schedule.decay_steps=480"), r"schedule\.warmup_steps=30 and a decay of 480 steps exceed"),
        (("schedule.shape=wsd", "schedule.decay_tokens=8"), r"decay_tokens has no effect with schedule\.unit=steps"),
        (("schedule.total_tokens=900",), r"total_tokens has no effect with schedule\.unit=steps: set schedule\.unit=tokens"),
        (("schedule.warmup_tokens=9",), r"warmup_tokens has no effect with schedule\.unit=steps"),
        (("schedule.decay_steps=8",), r"schedule\.decay_steps=8 needs schedule\.shape=wsd"),
        (
            ("schedule.unit=tokens", "schedule.total_tokens=5", "schedule.warmup_tokens=5"),
            r"schedule\.total_tokens \(5\) above",
        ),
        (
            ("schedule.shape=wsd", "schedule.unit=tokens", "schedule.total_tokens=50", "schedule.warmup_tokens=46"),
            r"schedule\.warmup_tokens=46 and a decay of 5 tokens exceed schedule\.total_tokens=50",
        ),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        resolve(registry.get("mm1_tiny"), overrides)


def test_a_run_in_tokens_ends_with_its_tokens_or_its_steps():
    progress = Progress(total_steps=3, total_tokens=100, tokens=99)
    assert not progress.done
    assert Progress(3, 100, step=1, tokens=100).done
    assert Progress(3, 100, step=3, tokens=5).done
    assert not Progress(3, step=2, tokens=10**9).done


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 16))
def test_a_layout_keeps_the_global_batch_and_the_limit(global_batch, max_micro_batch, world_size):
    if global_batch % world_size:
        with pytest.raises(ConfigurationError, match=f"split over {world_size} processes"):
            plan_batch(global_batch, max_micro_batch, world_size)
        return
    batch_plan = plan_batch(global_batch, max_micro_batch, world_size)
    assert batch_plan.micro_batch * batch_plan.accumulation * batch_plan.world_size == global_batch
    assert 1 <= batch_plan.micro_batch <= max_micro_batch
