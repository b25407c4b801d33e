"""A warning after ``mm1 submit``: the forecast of the training is longer than the time limit of the run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.config import RunConfig, SequenceConfig
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.cli.commands.plan import complete
from mm1_workflows.cli.pages import PLAN, page

STAGES = {"text_recipe": "text_overrides", "recipe": "overrides", "sft_recipe": "sft_overrides"}
"""Parameters of a workflow: the recipe of a training stage -> its overrides."""
SIZES = {"length": "sequence_length", "max_images": "max_images", "image_size_px": "image_size", "image_tokens": "image_tokens"}
"""Sizes of a sequence -> the parameters that set them."""
SLOW_STEP_S = 100
"""No training step is expected to take longer; a run whose steps would fit even so is not forecast (torch takes seconds)."""


class Training(NamedTuple):
    """GPUs for training."""

    gpus: int
    kind: str
    """Kind of GPU in the tables of ``mm1 plan``."""


def warning(values: Mapping[str, str], profile: Profile, limit_s: int) -> str:
    """Return the warning; empty if the run fits, trains nothing, or cannot be forecast.

    Args:
        values: the workflow's parameters.
        profile: the profile that it is submitted with.
        limit_s: time limit of the run, seconds.
    """
    configs = [config for name, overrides in STAGES.items() if (config := _config(values, name, overrides))]
    if sum(config.train.steps for config in configs) * SLOW_STEP_S <= limit_s:
        return ""
    training = _training(values, profile)
    seconds = sum(_seconds(config, training) for config in configs) if training else 0.0
    if not training or seconds <= limit_s:
        return ""
    return (
        f"warning: training is forecast to take {_days(seconds)} on {training.gpus} x {training.kind}, longer than the time "
        f"limit of the run ({_days(limit_s)}); raise run_seconds in the profile, or use more GPUs ({page(PLAN)})"
    )


def _config(values: Mapping[str, str], name: str, overrides: str) -> RunConfig | None:
    """Return the configuration of a stage; None without one, or with one whose model comes from elsewhere."""
    if not values.get(name):
        return None
    try:
        config = complete(registry.get(values[name]))
        if all(parameter in values for parameter in SIZES.values()):
            sizes = {size: int(values[parameter]) for size, parameter in SIZES.items()}
            config = config.model_copy(update={"sequence": SequenceConfig(**sizes)})
        return resolve(config, values.get(overrides, "").split())
    except (ConfigurationError, ValueError):
        return None


def _training(values: Mapping[str, str], profile: Profile) -> Training | None:
    pool = profile.pool(values.get("pool") or profile.placed("train"))
    kind = {"a100": "a100-80"}.get(pool.gpu, pool.gpu)
    nodes = values.get("nodes", "1")
    return Training(pool.gpus * int(nodes), kind) if pool.gpus and pool.gpu and nodes.isdigit() else None


def _seconds(config: RunConfig, training: Training) -> float:
    from mm1.train.plan.forecast import Machine, forecast

    try:
        return config.train.steps * forecast(config, Machine(training.gpus, training.kind)).speed.step_s
    except ConfigurationError:  # an unknown kind of GPU, or a layout that the trainer rejects itself
        return 0.0


def _days(seconds: float) -> str:
    days = seconds / timedelta(days=1).total_seconds()
    return f"{days:,.0f} days" if days >= 2 else f"{seconds / 3600:,.1f} hours"
