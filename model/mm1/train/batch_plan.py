"""Layout of a global batch: sequences -> processes -> micro-batches. Torch-free.

The global batch is fixed, so that a run is the same on any number of processes; micro-batch and accumulation follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mm1.errors import ConfigurationError
from mm1.train.config import RunConfig, TrainConfig

BUCKET_ELEMENTS = 50_000_000
"""Size of ZeRO's buckets for reducing gradients and prefetching weights; DeepSpeed's tenfold default needs 1 to 2 GB."""

SHARED_EXPERTS = "qwen3_moe"
"""Family of decoders whose experts processes can share."""


@dataclass(frozen=True)
class BatchPlan:
    """Factors of a global batch: ``global_batch = world_size * accumulation * micro_batch`` sequences."""

    global_batch: int
    world_size: int
    micro_batch: int
    """Sequences of one forward pass of one process."""
    accumulation: int
    """Forward passes of one process in a step."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step over all processes."""
        return self.world_size * self.accumulation


def plan_batch(global_batch: int, max_micro_batch: int, world_size: int) -> BatchPlan:
    """Split a global batch into the fewest micro-batches.

    Args:
        global_batch: sequences of a step.
        max_micro_batch: maximum number of sequences per micro-batch.
        world_size: number of processes.

    Raises:
        ConfigurationError: the number of processes does not divide the global batch.
    """
    if global_batch % world_size:
        allowed = [count for count in range(1, global_batch + 1) if global_batch % count == 0]
        raise ConfigurationError(
            f"train.global_batch={global_batch} sequences cannot be split over {world_size} processes: "
            f"start {', '.join(map(str, allowed))} of them, or change train.global_batch"
        )
    share = global_batch // world_size
    micro_batch = next(size for size in range(min(share, max_micro_batch), 0, -1) if share % size == 0)
    return BatchPlan(global_batch, world_size, micro_batch, share // micro_batch)


def plan_layout(train: TrainConfig, world_size: int) -> BatchPlan:
    """Split the global batch of a run over its processes.

    Raises:
        ConfigurationError: the number of processes does not divide the batch, or expert_parallel does not divide that number.
    """
    _check_divides(train.expert_parallel, world_size, "processes")
    return plan_batch(train.global_batch, train.micro_batch, world_size)


def check_forecast(config: RunConfig) -> None:
    """Refuse to plan a run whose memory and time are not forecast.

    Raises:
        ConfigurationError: it trains a vision tower with temporary parts, which the forecast does not count.
    """
    if config.stage == "vision":
        raise ConfigurationError(
            f"recipe {config.recipe}: stage vision is not forecast, because it trains parts that the model lacks: train a few "
            "steps; metrics.jsonl has their time and memory"
        )


def check_experts(expert_parallel: int, num_experts: int, family: str = SHARED_EXPERTS) -> None:
    """Refuse an expert-parallel size that the experts of a model do not allow.

    Args:
        expert_parallel: processes that share the experts.
        num_experts: experts of a sparse layer; 0 for a dense decoder.
        family: `model_type` of the decoder.

    Raises:
        ConfigurationError: the model has no experts to share, or the size does not divide their number.
    """
    if expert_parallel > 1 and not num_experts:
        raise ConfigurationError(f"train.expert_parallel={expert_parallel}, but the model has no experts: set it to 1")
    if expert_parallel > 1 and family != SHARED_EXPERTS:
        raise ConfigurationError(
            f"train.expert_parallel={expert_parallel}: processes can only share the experts of {SHARED_EXPERTS}, "
            f"but the decoder is {family}: set it to 1"
        )
    _check_divides(expert_parallel, num_experts, "experts")


def _check_divides(expert_parallel: int, number: int, what: str) -> None:
    if number % expert_parallel:
        raise ConfigurationError(f"train.expert_parallel={expert_parallel} does not divide the {number} {what}")
