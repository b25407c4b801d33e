"""The checkpoint that a gate judges, for steps that act on its decision."""

from __future__ import annotations

from mm1.errors import ConfigurationError
from mm1_components.wrapper.checks import Producer


def check_judged(checkpoint: object, decision: Producer) -> None:
    """Check that a gate's decision is about a checkpoint, for steps that act on the decision.

    Args:
        checkpoint: address, or producer.
        decision: the step that decides.
    """
    judged = decision.inputs.get("checkpoint") or decision.inputs.get("reports")
    if isinstance(judged, Producer) and judged.step == "evaluate":
        judged = judged.inputs.get("checkpoint")
    if decision.step == "gate" and judged and checkpoint and not same_checkpoint(judged, checkpoint):
        raise ConfigurationError(
            "checkpoint: the gate's decision is about another checkpoint; give both steps the same checkpoint"
        )


def same_checkpoint(first: object, second: object) -> bool:
    """Whether two checkpoints are the same: outputs of the same task, or addresses of the same manifest in any store."""
    if isinstance(first, str) and isinstance(second, str):
        return first.rpartition("/")[2] == second.rpartition("/")[2]
    return first == second
