"""Forecast of a run's memory and time, and the choice of the layout that fits at the lowest cost.

RunConfig, GPUs -> forecast() -> Forecast: memory by kind, step time, GPU-hours
RunConfig, GPUs -> propose() -> Forecast of the fastest layout that fits
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.train.batch_plan import BatchPlan, check_experts, plan_batch, plan_layout
from mm1.train.config import RunConfig, TrainConfig
from mm1.train.plan.activations import activation_bytes, fullest, precision_of
from mm1.train.plan.blueprint import Blueprint, blueprint_of
from mm1.train.plan.memory import StateBytes, World, state_bytes, weight_bytes
from mm1.train.plan.shapes import num_parameters
from mm1.train.plan.speed import GPUS, GPUS_PER_NODE, Gpu, Speed, step_speed

GIB = 2**30
FIELDS = ("micro_batch", "zero_stage", "expert_parallel", "gradient_checkpointing", "offload")
"""Fields of `train` that a proposal chooses."""
START = ", because each process holds the whole weights on its GPU until ZeRO partitions them"
ABOUT_EQUAL = 1.03
"""Step times within this ratio count as equal: no forecast is that exact."""


@dataclass(frozen=True)
class Machine:
    """GPUs that a run is planned for."""

    gpus: int
    gpu: str = "h100"
    reserve: float = 0.1
    """Share of a GPU's memory that is reserved for CUDA, NCCL and fragmentation."""
    mfu: float = 0.0
    """Share of the peak while computing; 0 = the assumption for the class of the model."""
    network_gb_s: float = 0.0
    """Network bandwidth of a machine of eight GPUs, one way; 0 = that of the fast network of a common cloud machine."""

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise ConfigurationError(f"unknown gpu {self.gpu!r}: expected one of {', '.join(GPUS)}")
        if self.gpus < 1 or not 0 <= self.reserve < 1 or not 0 <= self.mfu <= 1:
            raise ConfigurationError("gpus must be at least 1, reserve at least 0 and below 1, mfu from 0 to 1")
        if not 0 <= self.network_gb_s < math.inf:
            raise ConfigurationError(f"network: expected GB/s of a machine, at least 0, got {self.network_gb_s}")

    @property
    def kind(self) -> Gpu:
        """The kind of GPU, with the network of the machine."""
        gpu = GPUS[self.gpu]
        return replace(gpu, network_gb_s=self.network_gb_s) if self.network_gb_s else gpu

    @property
    def limit_gib(self) -> float:
        """Usable memory of a GPU."""
        return self.kind.memory_gib * (1 - self.reserve)


@dataclass(frozen=True)
class Forecast:
    """Memory and speed of one layout."""

    config: RunConfig
    machine: Machine
    batch_plan: BatchPlan
    num_parameters: int
    """Parameters, adapters included."""
    num_trained: int
    """Parameters that are trained."""
    memory_gib: dict[str, float]
    """Memory of one process on its GPU: weights, gradients, optimizer, activations, buffers."""
    start_gib: float
    """Memory on the GPU while the engine is built."""
    host_gib: dict[str, float]
    """Memory of one host: start (every process builds the whole model), training (offloaded state, a copy for checkpoints)."""
    speed: Speed = field(repr=False)

    @property
    def total_gib(self) -> float:
        """Peak memory of a process on its GPU."""
        return max(sum(self.memory_gib.values()), self.start_gib)

    @property
    def fits(self) -> bool:
        """Whether the peak leaves the reserve free."""
        return self.total_gib <= self.machine.limit_gib

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of the whole run."""
        return self.config.train.steps * self.speed.step_s * self.machine.gpus / 3600


def forecast(config: RunConfig, machine: Machine) -> Forecast:
    """Forecast a run as it is configured.

    Raises:
        ConfigurationError: sizes are not in the recipe, or the GPUs do not divide the batch or the experts.
    """
    blueprint, sequence, train = blueprint_of(config), config.sequence, config.train
    assert sequence is not None, "checked by blueprint_of"
    num_experts = blueprint.config.num_experts if blueprint.config.is_moe else 0
    check_experts(train.expert_parallel, num_experts)
    batch_plan = plan_layout(train, machine.gpus)
    state = state_bytes(blueprint.shapes, blueprint.trained_shapes, config, World(machine.gpus, train.expert_parallel))
    units = blueprint.unit_bytes(precision_of(train))
    activations = max(
        activation_bytes(units, batch, train.gradient_checkpointing, train.expert_parallel).peak
        for batch in fullest(sequence, batch_plan.micro_batch)[config.stage == "text" :]
    )
    if precision_of(train) == "autocast":
        activations += 2 * _num_copied(blueprint, train)
    kinds = {
        "weights": state.weights,
        "gradients": state.gradients,
        "optimizer": state.optimizer,
        "activations": activations,
        "buffers": state.buffers,
    }
    return Forecast(
        config=config,
        machine=machine,
        batch_plan=batch_plan,
        num_parameters=num_parameters(blueprint.shapes),
        num_trained=num_parameters(blueprint.trained_shapes),
        memory_gib={kind: size / GIB for kind, size in kinds.items()},
        start_gib=state.start / GIB,
        host_gib=_host_gib(config, blueprint, state, machine.gpus),
        speed=step_speed(config, blueprint, batch_plan, machine.kind, machine.mfu),
    )


def _num_copied(blueprint: Blueprint, train: TrainConfig) -> int:
    """Count the weights that autocast copies in bfloat16 for the step.

    It keeps the copies of trained weights. Copies of frozen ones stay as long as autograd needs them for gradients of inputs,
    which a block that is recomputed does not.
    """
    return num_parameters(blueprint.trained_shapes if train.gradient_checkpointing else blueprint.backward_shapes)


def _host_gib(config: RunConfig, blueprint: Blueprint, state: StateBytes, gpus: int) -> dict[str, float]:
    local, numel = min(gpus, GPUS_PER_NODE), num_parameters(blueprint.shapes)
    # Fresh weights are initialised in float32; weights from a checkpoint, also those to upcycle, have the run's dtype.
    from_init = config.stage == "sft" or (config.model.decoder is not None and config.model.decoder.num_experts > 0)
    start = local * numel * (weight_bytes(config.train) if from_init else 4)
    saved = num_parameters(blueprint.trained_shapes) if config.train.lora.rank else numel  # checkpoints have the adapter alone
    training = local * (state.host + state.optimizer) + weight_bytes(config.train) * saved
    return {"start": start / GIB, "training": training / GIB}


def propose(config: RunConfig, machine: Machine, fixed: Collection[str] = ()) -> Forecast:
    """Choose the fastest layout that fits; among about equal ones the simplest, then the one with the largest micro-batch.

    Args:
        config: the run.
        machine: GPUs that it is planned for.
        fixed: fields of `train` that do not change.

    Raises:
        ConfigurationError: none fits; the message contains a remedy.
    """
    blueprint_of(config)  # refuses sizes that are missing or do not fit each other
    plan_batch(config.train.global_batch, config.train.micro_batch, machine.gpus)  # refuses GPUs that do not divide the batch
    candidates = list(_layouts(config, machine, fixed))
    fitting = [candidate for candidate in candidates if candidate.fits]
    if fitting:
        return _cheapest(fitting)
    if not candidates:
        raise ConfigurationError(
            f"no layout of recipe {config.recipe} is valid on {machine.gpus} GPUs with {', '.join(fixed)}: change one of them"
        )
    least = min(candidates, key=lambda candidate: candidate.total_gib)
    raise ConfigurationError(
        f"no layout fits {machine.gpus} {machine.gpu} with {machine.limit_gib:.0f} GiB usable on each: with "
        f"{' '.join(overrides_of(least))} {config.recipe} still needs {least.total_gib:.0f} GiB"
        f"{START if least.start_gib == least.total_gib else ''}. {_remedy(config, machine, fixed)}"
    )


def smallest(config: RunConfig, machine: Machine, fixed: Collection[str] = ()) -> Forecast | None:
    """Propose a layout for the fewest GPUs, doubling those of `machine` up to the global batch; None if none fits."""
    gpus = machine.gpus
    while gpus <= config.train.global_batch and config.train.global_batch % gpus == 0:
        larger = Machine(gpus, machine.gpu, machine.reserve, machine.mfu)
        if fitting := [candidate for candidate in _layouts(config, larger, fixed) if candidate.fits]:
            return _cheapest(fitting)
        gpus *= 2
    return None


def overrides_of(forecast: Forecast) -> list[str]:
    """Return the layout's overrides, for ``-p overrides=`` or ``--set``."""
    return _overrides({name: getattr(forecast.config.train, name) for name in FIELDS})


def _overrides(values: Mapping[str, object]) -> list[str]:
    return [f"train.{name}={str(value).lower()}" for name, value in values.items()]


def _cheapest(fitting: list[Forecast]) -> Forecast:
    quickest = min(candidate.speed.step_s for candidate in fitting)
    return min((candidate for candidate in fitting if candidate.speed.step_s <= ABOUT_EQUAL * quickest), key=_costs)


def _costs(candidate: Forecast) -> tuple[float, ...]:
    train = candidate.config.train
    means = (train.offload != "none") + train.gradient_checkpointing + (train.expert_parallel > 1)
    return (means, train.zero_stage, train.expert_parallel, -train.micro_batch)


def _layouts(config: RunConfig, machine: Machine, fixed: Collection[str]) -> Iterator[Forecast]:
    experts = config.model.decoder.num_experts if config.model.decoder else 0
    share = config.train.global_batch // machine.gpus
    parallel = [size for size in (2, 4, 8, 16, 32, 64) if experts and experts % size == 0 and machine.gpus % size == 0]
    choices: dict[str, list[object]] = {
        "micro_batch": [size for size in (1, 2, 4, 8, 16, 32) if share % size == 0],
        # Not 1 with bfloat16: DeepSpeed then keeps whole gradients in both dtypes on every process.
        "zero_stage": [0, 2, 3] if config.train.dtype == "bfloat16" else [0, 1, 2, 3],
        "expert_parallel": [1, *parallel],
        "gradient_checkpointing": [False, True],
        "offload": ["none", "optimizer"],
    }
    choices |= {name: [getattr(config.train, name)] for name in fixed if name in choices}
    for values in itertools.product(*choices.values()):
        overrides = _overrides(dict(zip(choices, values, strict=True)))
        try:
            yield forecast(resolve(config, overrides), machine)
        except ConfigurationError:
            continue  # incompatible stages, optimizers and experts


def _remedy(config: RunConfig, machine: Machine, fixed: Collection[str]) -> str:
    more = Machine(2 * machine.gpus, machine.gpu, machine.reserve, machine.mfu)
    if (enough := smallest(config, more, fixed)) is not None:
        return f"Use {enough.machine.gpus} GPUs, with {' '.join(overrides_of(enough))}"
    if fixed:
        return f"Do not fix {', '.join(fixed)}, use GPUs with more memory, or shorter sequences"
    return "Use GPUs with more memory, shorter sequences, or optim.name=adamw, which ZeRO can partition"
