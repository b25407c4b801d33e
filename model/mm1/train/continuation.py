"""Continuing a run from one of its checkpoints with more steps: model, optimizer, counters and position in the data go on.

    checkpoint with a trainer state + recipe, overrides -> continued() -> RunConfig with the parts of the checkpoint's run
    first start of the run: from that checkpoint; later starts: from its own newest one

`init` is the other way to start from a checkpoint: it hands over the model alone, to a new phase. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from mm1.config.resolve import explain, path_of
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, digest_of_manifest, split_uri
from mm1.train.config import ModelConfig, RunConfig, TrainJob

MODEL_ALONE = "or start a new run with init=<this checkpoint>, which takes the model alone"
SAME = ("stage", "optim.name", "optim.first_moment", "train.frozen", "train.lora", "train.global_batch", "train.dtype")
"""Fields that the state depends on: the optimizer and its tensors, the counters, which count whole batches."""


def continued(config: RunConfig, checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> RunConfig:
    """Give a run the model parts of the run that it continues.

    Args:
        config: the run with its overrides; ``train.steps`` counts all steps, those of the checkpoint included.
        checkpoint: the checkpoint to continue.
        overrides: the user's overrides; those without effect are refused.

    Raises:
        ConfigurationError: the checkpoint has no state, or the run does not fit it.
    """
    if not checkpoint.trainer:
        raise ConfigurationError(
            f"resume: the checkpoint of step {checkpoint.step} has no optimizer state, which a run publishes at its end with "
            f"train.keep_state=true: train it again with that, {MODEL_ALONE}"
        )
    try:
        before = RunConfig.model_validate(checkpoint.config).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigurationError(
            f"resume: the checkpoint was written by another version of MM1: {explain(error)[:300]}"
        ) from None
    for path in SAME:
        value, saved = _at(config.model_dump(mode="json"), path), _at(before, path)
        if value != saved:
            raise ConfigurationError(
                f"resume: {path}={_text(value)}, but the checkpoint was trained with {path}={_text(saved)}: set that, "
                f"{MODEL_ALONE}"
            )
    check_end(config, checkpoint)
    return config.model_copy(update={"model": _same_parts(config, before["model"], overrides)})


def check_end(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Refuse a run that ends where the checkpoint is, or before.

    Raises:
        ConfigurationError: nothing is left to do.
    """
    steps, tokens = config.train.steps, config.schedule.total_tokens
    if checkpoint.step >= steps:
        raise ConfigurationError(
            f"train.steps={steps}, but the checkpoint to resume is at step {checkpoint.step}: set the number of all steps, "
            f"for example train.steps={2 * checkpoint.step}"
        )
    if config.schedule.unit == "tokens" and checkpoint.tokens_seen >= tokens:
        raise ConfigurationError(
            f"schedule.total_tokens={tokens}, but the checkpoint to resume has seen {checkpoint.tokens_seen} tokens: set the "
            "number of all tokens"
        )


def _same_parts(config: RunConfig, before: dict[str, Any], overrides: Sequence[str]) -> ModelConfig:
    """Return the parts of the run before, after a comparison with the recipe's."""
    objectives = ModelConfig.model_validate(before).objectives
    if config.model.objectives != objectives:
        raise ConfigurationError(
            f"resume: recipe {config.recipe} trains model.{config.model.objectives[0]}, but the checkpoint was trained with "
            f"model.{objectives[0]}: use its recipe, {MODEL_ALONE}"
        )
    for part in ModelConfig.model_fields:
        section, saved = getattr(config.model, part), before.get(part)
        ignored = [item for item in overrides if f"{path_of(item)}.".startswith(f"model.{part}.")]
        if saved is None and ignored:
            raise ConfigurationError(f"override {ignored[0]}: the {part} comes from the checkpoint, so it has no effect")
        if saved is None or section is None:
            continue
        saved = type(section).model_validate(saved)
        for field in type(section).model_fields:
            value, expected = getattr(section, field), getattr(saved, field)
            if value != expected:
                raise ConfigurationError(
                    f"resume: recipe {config.recipe} has model.{part}.{field}={_text(value)}, but the checkpoint has "
                    f"{_text(expected)}: use the recipe and the overrides of its run"
                )
    return ModelConfig.model_validate(before)


def check_mixture(config: RunConfig, checkpoint: Checkpoint, data: str) -> None:
    """Refuse another mixture, in which the position of the checkpoint has no meaning, unless the data is to start anew.

    Args:
        config: the run.
        checkpoint: the checkpoint to continue.
        data: digest of the run's mixture.

    Raises:
        ConfigurationError: the checkpoint was trained on another mixture.
    """
    if data not in checkpoint.parents and not config.train.restart_data:
        raise ConfigurationError(
            f"data: the checkpoint to resume was trained on another mixture than {data[:12]}: give that mixture, set "
            f"train.restart_data=true to start at the beginning of this one, {MODEL_ALONE}"
        )


def check_origin(init: str, checkpoint: Checkpoint) -> None:
    """Refuse an initial checkpoint that the run to continue did not start from.

    Args:
        init: digest of the initial checkpoint, or empty.
        checkpoint: the checkpoint to continue.

    Raises:
        ConfigurationError: it would have no effect.
    """
    if init and init not in checkpoint.parents:
        raise ConfigurationError(
            "init: the run to resume did not start from this checkpoint: leave init empty; in a workflow, set the parameters "
            "of the text base to those of that run, with the same version of MM1, so that it comes from the cache"
        )


def begins(job: TrainJob, checkpoint: Checkpoint) -> bool:
    """Whether a job starts from the checkpoint that it continues, not from one of its own."""
    return bool(job.resume) and digest_of_manifest(checkpoint) == split_uri(job.resume)[1]


def num_sequences(job: TrainJob, first_step: int) -> int:
    """Return the sequences of its mixture that a job takes; with `restart_data`, those after ``first_step``."""
    train = job.config.train
    return (train.steps - (first_step if train.restart_data else 0)) * train.global_batch


def _at(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for key in path.split("."):
        value = value.get(key)  # left out if it is empty
    return value


def _text(value: Any) -> str:
    """Return a value as an override gives it."""
    return value if isinstance(value, str) else json.dumps(value)
