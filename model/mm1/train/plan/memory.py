"""Bytes of a training run's state in one process, by kind: weights, gradients, optimizer, buffers.

    {name: shape} of all and of trained parameters, RunConfig, World -> StateBytes on the device, on the host, and at start-up

Bytes per trained parameter as allocated by DeepSpeed 0.19 (the tests compare with the tensors of real engines); a frozen one
has only weights:

| | weights | gradients | masters | AdamW |
|---|---|---|---|---|
| stage 0 | 4 (float32, also with autocast) | 4 | - | 8 |
| stage 1, float32 | 4 | 4 | 4 / n | 8 / n |
| stage 1, bfloat16 | 2 | 4, and 2 of the backward pass | 4 / n | 8 / n |
| stage 2 | 4 or 2 | 4 / n | 4 / n | 8 / n |
| stage 3 | 4 / n or 2 / n | 4 / n | 4 / n | 8 / n |

n is the number of processes that share a parameter: all of them, or for an expert those that hold the same expert, fewer by
the expert-parallel size; each process has only its share of the experts. Adafactor keeps a whole row and column of each matrix
on every process, and partitions its first moment; Muon keeps one momentum for the matrices of blocks, in the dtype of the
weights if ZeRO partitions it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mm1.train.batch_plan import BUCKET_ELEMENTS
from mm1.train.config import RunConfig, TrainConfig
from mm1.train.muon import takes_muon
from mm1.train.plan.shapes import EXPERTS, Shapes, largest_block

JOINED = 500_000_000
"""Elements that DeepSpeed joins for one reduction where it does not use these buckets."""
LIVE_PARAMETERS = 1_000_000_000
"""Maximum number of parameters that stage 3 keeps gathered, unless one block has more."""


@dataclass(frozen=True)
class World:
    """Processes of a run, one on each GPU."""

    processes: int
    expert_parallel: int = 1

    def sharing(self, name: str) -> int:
        """Number of processes over which ZeRO partitions a parameter."""
        return self.processes // self.expert_parallel if EXPERTS in name else self.processes

    def local(self, name: str, shape: tuple[int, ...]) -> int:
        """Number of elements of a parameter that one process computes with."""
        return math.prod(shape) // (self.expert_parallel if EXPERTS in name else 1)


@dataclass(frozen=True)
class StateBytes:
    """Bytes of one process."""

    weights: float
    gradients: float
    optimizer: float
    """Master weights and the optimizer state."""
    buffers: float
    """DeepSpeed's buckets, and weights that stage 3 gathers temporarily."""
    host: float
    """Offloaded optimizer in host memory."""
    start: float
    """On the device while the engine is built: whole weights, before ZeRO partitions them."""


def weight_bytes(train: TrainConfig) -> int:
    """Return the bytes of a weight; at stage 0 bfloat16 is the dtype of the arithmetic only."""
    return 2 if train.dtype == "bfloat16" and train.zero_stage > 0 else 4


def reduced_bytes(train: TrainConfig) -> int:
    """Return the bytes of an element of the gradient that is sent to be summed over processes."""
    return 2 if train.reduce_dtype == "bfloat16" else 4


def state_bytes(shapes: Shapes, trained: Shapes, config: RunConfig, world: World) -> StateBytes:
    """Count the state of a run.

    Args:
        shapes: all parameters.
        trained: those that are trained.
        config: optimizer, precision, ZeRO stage.
        world: processes; its expert-parallel size is used, not the one in `config`.
    """
    train, size = config.train, weight_bytes(config.train)
    stage, offloaded = train.zero_stage, train.offload == "optimizer"
    local = {name: world.local(name, shape) for name, shape in shapes.items()}
    weights = sum(size * numel / (world.sharing(name) if stage == 3 else 1) for name, numel in local.items())
    gradients = optimizer = host = 0.0
    for name, shape in trained.items():
        partition = local[name] / (world.sharing(name) if stage else 1)
        state = _state(name, shape, partition, config) + (4 * partition if stage else 0)
        if offloaded:
            # Also gradients, once summed and once as the optimizer reads them, and updated weights before their copy back.
            host += state + (8 + size) * partition
        else:
            optimizer += state
        gradients += _gradient(local[name], partition, train)
    local_trained = {name: local[name] for name in trained}
    # ZeRO copies trained weights into flat buffers (stages 1 and 2), or partitions all weights (3).
    copied = {0: 0.0, 3: sum(local.values()) / world.processes}.get(stage, sum(local_trained.values()))
    start = size * (sum(local.values()) + copied)
    return StateBytes(weights, gradients, optimizer, _buffers(train, size, local, local_trained, world), host, start)


def _state(name: str, shape: tuple[int, ...], partition: float, config: RunConfig) -> float:
    optim, train = config.optim, config.train
    if optim.name == "adafactor":
        mean = 4 * partition if optim.first_moment else 0.0
        if len(shape) < 2:
            return mean + 4 * partition
        return mean + 4 * math.prod(shape[:-2]) * (shape[-1] + shape[-2])  # whole on every process
    if optim.name == "muon" and takes_muon(name, shape):
        return (weight_bytes(train) if train.zero_stage else 4) * partition
    return 8 * partition


def _gradient(numel: int, partition: float, train: TrainConfig) -> float:
    if train.zero_stage >= 2:
        return 0.0 if train.offload == "optimizer" else 4 * partition
    kept_twice = train.zero_stage == 1 and train.dtype == "bfloat16" and train.offload == "none"
    return (6 if kept_twice else 4) * numel


def _buffers(train: TrainConfig, size: int, local: dict[str, int], trained: dict[str, int], world: World) -> float:
    """Count the buffers; `local` and `trained` are numbers of elements by name."""
    if world.processes == 1 and train.zero_stage == 0:
        return 0.0
    joins = train.zero_stage == 1 and train.dtype == "bfloat16" and train.offload == "none"
    if train.zero_stage == 0 or joins:
        return 4 * min(JOINED, sum(trained.values()))
    # Two buckets, one filled while the other is reduced (only one on a CPU), and the largest gradient itself.
    buckets = (2 * BUCKET_ELEMENTS + max(trained.values())) * (4 if train.zero_stage == 1 else size)
    if reduced_bytes(train) != (4 if train.zero_stage == 1 else size):  # the bucket in transit is converted
        buckets += reduced_bytes(train) * max(BUCKET_ELEMENTS, *trained.values())
    if train.zero_stage < 3:
        return buckets
    return buckets + size * max(largest_block(local), min(LIVE_PARAMETERS, sum(local.values())))
