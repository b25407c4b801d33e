"""Whether a checkpoint belongs to a piece of work: its stage, recipe, parents and configuration.

Pointers and cache entries name checkpoints by digest; whoever can write to the store, or mixes up two of them, would otherwise
choose the weights of another run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from mm1.manifests import Checkpoint
from mm1.train.config import LAYOUT_FIELDS, RunConfig


def decisive(config: RunConfig) -> dict[str, Any]:
    """Return the part of a configuration that affects the result: not the log, nor the layout of the processes."""
    return config.model_dump(mode="json", exclude={"log": True, "train": set(LAYOUT_FIELDS)})


def difference(checkpoint: Checkpoint, config: RunConfig, parents: Sequence[str]) -> str:
    """Describe the first difference between a checkpoint and the work that would use it; empty if it belongs to the work.

    Args:
        checkpoint: the checkpoint.
        config: configuration of the work.
        parents: digests of its data and of its initial checkpoint, if there is one.
    """
    for name, expected, value in (
        ("stage", config.stage, checkpoint.stage),
        ("recipe", config.recipe, checkpoint.recipe),
        ("parents", [digest[:12] for digest in parents], [digest[:12] for digest in checkpoint.parents]),
    ):
        if expected != value:
            return f"{name}: expected {expected!r}, got {value!r}"
    try:
        stored = decisive(RunConfig.model_validate(checkpoint.config))
    except ValidationError:
        return "config: not one of this version of MM1"
    return _difference("config", decisive(config), stored)


def _difference(path: str, expected: Any, value: Any) -> str:
    if isinstance(expected, dict) and isinstance(value, dict):
        for name in sorted({*expected, *value}):
            if text := _difference(f"{path}.{name}", expected.get(name), value.get(name)):
                return text
        return ""
    return "" if expected == value else f"{path}: expected {expected!r}, got {value!r}"
