"""Learning rates: MM1's law for the peak; then warm-up, and cosine decay (MM1 4), a late decay (WSD) or none."""

from __future__ import annotations

import math

from mm1.errors import ConfigurationError
from mm1.train.config import ScheduleConfig


def learning_rate_law(num_parameters: int) -> float:
    """Compute the peak learning rate for a decoder of N non-embedding parameters: exp(-0.4214 ln N - 0.5535).

    Raises:
        ConfigurationError: the number is not positive.
    """
    if num_parameters < 1:
        raise ConfigurationError(f"optim.lr=law: expected a decoder with parameters, got {num_parameters}: set optim.lr")
    return math.exp(-0.4214 * math.log(num_parameters) - 0.5535)


def warmup_steps(schedule: ScheduleConfig, steps: int) -> int:
    """Compute the warm-up steps of a run of ``steps`` steps."""
    return min(schedule.warmup_steps, steps // 10) if schedule.shape == "cosine" else schedule.warmup_steps


def rate_factor(schedule: ScheduleConfig, step: int, steps: int, tokens: int = 0) -> float:
    """Compute the multiplier of the peak learning rate.

    Args:
        schedule: shape of the curve, over steps or tokens.
        step: the next optimizer step, 0 to ``steps - 1``.
        steps: maximum number of optimizer steps of the run.
        tokens: tokens of the previous steps, padding excluded.

    Returns:
        A number in (0, 1]: rises linearly to 1 in the warm-up; then falls to ``final_share`` at the last step, except with
        shape=constant. It is 0 only in the last step with ``final_share`` 0.
    """
    decay = schedule.decay(steps)
    if schedule.unit == "tokens":
        # Estimates the tokens of the next step: the mean of the previous steps, or at first the mean of the whole run.
        expected = tokens / step if step else schedule.total_tokens / steps
        return _curve(schedule, tokens + expected, schedule.warmup_tokens, schedule.total_tokens, decay)
    return _curve(schedule, step + 1, warmup_steps(schedule, steps), steps, decay)


def _curve(schedule: ScheduleConfig, position: float, warmup: float, total: float, decay: float) -> float:
    """Compute the factor at a position between 0 (nothing done) and ``total`` (the last step done)."""
    if position <= warmup:
        return position / warmup
    if schedule.shape == "constant":
        return 1.0
    if schedule.shape == "wsd":
        progress = min(max(position - (total - decay), 0) / decay, 1.0)
        share = 1 - (math.sqrt(progress) if schedule.decay_curve == "1-sqrt" else progress)
    else:
        offset = 1 if schedule.unit == "steps" else 0  # the first step after the warm-up runs at the peak
        progress = min((position - offset - warmup) / max(total - offset - warmup, 1), 1.0)
        share = 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final_share + (1 - schedule.final_share) * share
