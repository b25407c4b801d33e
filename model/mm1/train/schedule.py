"""Learning rates: MM1's law for the peak, warm-up and cosine decay over the steps (MM1 3.3)."""

from __future__ import annotations

import math

from mm1.errors import ConfigurationError
from mm1.train.config import ScheduleConfig


def learning_rate_law(num_parameters: int) -> float:
    """The peak learning rate for a decoder of ``num_parameters`` non-embedding parameters: exp(-0.4214 ln N - 0.5535).

    Raises:
        ConfigurationError: the number is not positive.
    """
    if num_parameters < 1:
        raise ConfigurationError(f"optim.lr=law needs a decoder with parameters, not {num_parameters}")
    return math.exp(-0.4214 * math.log(num_parameters) - 0.5535)


def warmup_steps(schedule: ScheduleConfig, steps: int) -> int:
    """Steps of the warm-up in a run of ``steps`` steps."""
    return min(schedule.warmup_steps, steps // 10)


def rate_factor(schedule: ScheduleConfig, step: int, steps: int, tokens: int = 0) -> float:
    """What the peak learning rate is multiplied by.

    Args:
        schedule: shape of the curve, and whether it runs over steps or tokens.
        step: the optimiser step that is about to be done, 0 to ``steps - 1``.
        steps: optimiser steps of the run at most.
        tokens: tokens (padding left out) of the steps before.

    Returns:
        A number in (0, 1]: rises linearly to 1 in the warm-up, falls as a cosine to ``final_share`` at the last step.
    """
    if schedule.unit == "tokens":
        # The step counts with as many tokens as the steps before had on average, or as all should have.
        expected = tokens / step if step else schedule.total_tokens / steps
        return _curve(schedule, tokens + expected, schedule.warmup_tokens, schedule.total_tokens)
    return _curve(schedule, step + 1, warmup_steps(schedule, steps), steps)


def _curve(schedule: ScheduleConfig, position: float, warmup: float, total: float) -> float:
    """The factor at a position between 0 (nothing done) and ``total`` (the last step done)."""
    if position <= warmup:
        return position / warmup
    one = 1 if schedule.unit == "steps" else 0  # the first step after the warm-up is done at the peak
    progress = (position - one - warmup) / max(total - one - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return schedule.final_share + (1 - schedule.final_share) * cosine
