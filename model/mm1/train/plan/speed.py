"""Forecast of the step time: useful work at an assumed share of the peak, plus network and offloading.

All of these are named assumptions for planning, to be replaced by a measurement (`make bench-gpu`, `--mfu`):

- compute: the FLOPs of a full step (:mod:`mm1.train.flops`) at :data:`ASSUMED_MFU` of the peak, less with recomputed
  activations, which repeat the forward pass: three quarters of it if everything is trained;
- network: bytes sent in a ring, at :data:`REACHED` of the slowest link's bandwidth: NVLink within a machine, all network cards
  of the machine between machines. Only gradients of trained weights are reduced. Reductions and gathers during a pass overlap
  with the compute of the backward pass, two thirds of all if everything is trained; gathers of weights after the update, and
  rows sent to experts, do not overlap;
- offloading: gradients and weights over PCIe, and a step in host memory, at :data:`OFFLOAD_BYTES_PER_S` per process.
"""

from __future__ import annotations

from dataclasses import dataclass

from mm1.train.batch_plan import BatchPlan
from mm1.train.config import RunConfig, SequenceConfig
from mm1.train.flops import StepFlops, Work, full_work, peak_flops
from mm1.train.plan.blueprint import Blueprint
from mm1.train.plan.memory import World, reduced_bytes, weight_bytes
from mm1.train.plan.shapes import Shapes, num_experts_parameters, num_parameters, num_sparse_layers


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, in machines of eight."""

    device: str
    """Name of the GPU for :func:`mm1.train.flops.peak_flops`."""
    memory_gib: float
    """Memory available to a process, slightly below the nominal size."""
    link_gb_s: float
    """Bandwidth to the other GPUs of the machine, one way."""
    network_gb_s: float
    """Network bandwidth of the machine, one way; values of AWS p4d, p4de, p5, p5en and g6e.48xlarge."""

    @property
    def peak(self) -> float:
        """Peak bfloat16 FLOP/s."""
        peak = peak_flops(self.device)
        assert peak is not None, f"{self.device} is in the table of peaks"
        return peak


GPUS = {
    "a100-40": Gpu("A100", 39.4, 300, 50),
    "a100-80": Gpu("A100", 79.1, 300, 50),
    "h100": Gpu("H100", 79.1, 450, 400),
    "h200": Gpu("H200", 139.8, 450, 400),
    "l40s": Gpu("L40S", 44.4, 32, 50),
}
GPUS_PER_NODE = 8

ASSUMED_MFU = {"text": 0.40, "images and text": 0.35, "experts": 0.25}
"""Share of the peak without recomputing. Published on H100s: dense text of 1B to 8B 33 to 52 % (torchtitan, llm-foundry,
OLMo-core, Megatron-Bridge); image-text 30 to 40 % (lmms-engine); mixtures of experts 20 to 39 %, with images 14 %
(Megatron-Bridge)."""
REACHED = 0.7
OFFLOAD_BYTES_PER_S = 10e9


@dataclass(frozen=True)
class Speed:
    """Forecast of one step of full sequences."""

    flops: StepFlops
    mfu: float
    """Assumed MFU while computing; :attr:`Speed.reached_mfu` includes network and offloading."""
    compute_s: float
    network_s: float
    """Network time that does not overlap with compute."""
    offload_s: float
    tokens: int
    reached_mfu: float

    @property
    def step_s(self) -> float:
        """Seconds per step."""
        return self.compute_s + self.network_s + self.offload_s

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second over all GPUs."""
        return self.tokens / self.step_s


def assumed_mfu(config: RunConfig, has_experts: bool, flops: StepFlops, forward: StepFlops) -> float:
    """Return the share of the peak to plan a recipe with.

    Args:
        config: the run.
        has_experts: whether the decoder is a mixture of experts.
        flops: useful work of a step.
        forward: that of its forward pass.
    """
    kind = "experts" if has_experts else "text" if config.stage == "text" else "images and text"
    recomputed = flops.recomputed(forward) if config.train.gradient_checkpointing else 0
    return ASSUMED_MFU[kind] * flops.total / (flops.total + recomputed)


def work_of_step(config: RunConfig, sequence: SequenceConfig) -> Work:
    """Compute the work of a step of full sequences; those of the text stage have no images."""
    work = full_work(sequence, config.train.global_batch)
    return Work(work.tokens, work.pairs, work.tokens, 0) if config.stage == "text" else work


def step_speed(config: RunConfig, blueprint: Blueprint, batch_plan: BatchPlan, gpu: Gpu, mfu: float = 0.0) -> Speed:
    """Forecast the time of a step.

    Args:
        config: the run, with its sequence.
        blueprint: of its model.
        batch_plan: of its batch.
        gpu: kind of all GPUs.
        mfu: share of the peak while computing, 0 to 1; 0 = the assumption for the class of the model.
    """
    assert config.sequence is not None, "checked by blueprint_of"
    work = work_of_step(config, config.sequence)
    flops, forward = blueprint.flops.step(work), blueprint.forward_flops.step(work)
    mfu = mfu or assumed_mfu(config, blueprint.config.is_moe, flops, forward)
    world = World(batch_plan.world_size, config.train.expert_parallel)
    available = batch_plan.world_size * gpu.peak
    compute_s = flops.total / (available * mfu)
    overlapped_s, exposed_s = _network_seconds(config, blueprint, batch_plan, gpu)
    # At stages below 2, gradients are reduced after the last backward pass.
    backward_s = compute_s * (1 - forward.total / flops.total) if config.train.zero_stage >= 2 else 0.0
    network_s = exposed_s + max(0.0, overlapped_s - backward_s)
    offload_s = 0.0
    if config.train.offload == "optimizer":
        partition = sum(world.local(name, shape) / world.sharing(name) for name, shape in blueprint.trained_shapes.items())
        offload_s = partition * (4 + 28 + 2 * weight_bytes(config.train)) / OFFLOAD_BYTES_PER_S
    step_s = compute_s + network_s + offload_s
    tokens = batch_plan.global_batch * config.sequence.length
    return Speed(flops, mfu, compute_s, network_s, offload_s, tokens, flops.total / step_s / available)


def _network_seconds(config: RunConfig, blueprint: Blueprint, batch_plan: BatchPlan, gpu: Gpu) -> tuple[float, float]:
    """Compute the seconds that can overlap with compute, and those that cannot."""
    train, size, reduced = config.train, weight_bytes(config.train), reduced_bytes(config.train)

    def once(shapes: Shapes) -> float:
        """Compute the seconds to gather or scatter one byte of each parameter."""
        experts = num_experts_parameters(shapes)
        common, own = num_parameters(shapes) - experts, experts / train.expert_parallel
        sharing = batch_plan.world_size // train.expert_parallel
        # A ring over n processes sends (n - 1) / n of a tensor for each gather or scatter. Processes that share an expert are
        # on different machines.
        parts = ((common, batch_plan.world_size, batch_plan.world_size), (own, sharing, batch_plan.world_size))
        return sum(numel * (1 - 1 / n) / _bandwidth(gpu, across) for numel, n, across in parts)

    trained = once(blueprint.trained_shapes)
    gathered = trained * size if train.zero_stage in (1, 2) else 0.0
    if train.zero_stage < 2:
        overlapped = trained * 2 * reduced
    else:  # each micro-batch is reduced; stage 3 also gathers the weights of a part in each of its passes
        weights = once(blueprint.shapes) + once(blueprint.backward_shapes) if train.zero_stage == 3 else 0.0
        overlapped = batch_plan.accumulation * (trained * reduced + weights * size)
    return overlapped, gathered + _exchange_seconds(config, blueprint, batch_plan, gpu)


def _exchange_seconds(config: RunConfig, blueprint: Blueprint, batch_plan: BatchPlan, gpu: Gpu) -> float:
    """Compute the seconds for sending rows of tokens to experts on other processes and back."""
    model, train = blueprint.config, config.train
    if not model.is_moe or config.sequence is None:
        return 0.0
    rows = batch_plan.global_batch / batch_plan.world_size * config.sequence.length
    rows *= model.num_experts_per_tok * num_sparse_layers(blueprint.shapes) * (1 - 1 / train.expert_parallel)
    trips = 2 * (3 if train.gradient_checkpointing else 2)
    sent = rows * trips * model.text_config.hidden_size * weight_bytes(train)
    return sent / _bandwidth(gpu, train.expert_parallel)


def _bandwidth(gpu: Gpu, processes: int) -> float:
    return 1e9 * REACHED * (gpu.link_gb_s if processes <= GPUS_PER_NODE else min(gpu.link_gb_s, gpu.network_gb_s))
