import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
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
