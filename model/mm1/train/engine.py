"""The DeepSpeed engine behind one small interface; the only file that imports deepspeed.

One code path for one CPU process and many GPUs: processes find each other through the variables of torchrun (RANK, WORLD_SIZE,
MASTER_ADDR), and communicate over gloo on CPUs and NCCL on GPUs. ZeRO stages 0 to 3; float32, or bfloat16 with float32 master
weights; experts on every process, or shared by some (DeepSpeed's AutoEP replaces the layer of transformers by its own).

    forward(batch) -> output, backward(loss), [again for each micro-batch of the step] -> squared_norm(), summed over processes
        -> step(rate factor, norm), or skip_step() to drop the gradient
    state() / load_state(): this rank's part of the optimizer as pieces of parameters, which any other world can load
    weights(): the whole model's weights on rank 0, however they are partitioned

Workarounds for DeepSpeed: it compiles Muon's kernels with torch.compile, which on a CPU takes seconds for the import and for
each shape, for a millisecond of work, so on a CPU they run uncompiled. It builds its shared-memory collectives with the C++
compiler at first use, although gloo makes them unnecessary. It computes the gradient norm in its step, too late to decide on
the step, so norm and clipping are in :mod:`mm1.train.gradients`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed import distributed_c10d

from mm1.checkpoint.pieces import StateReader
from mm1.errors import ConfigurationError
from mm1.modeling.routers import compute_in_float32
from mm1.train.adafactor import Adafactor
from mm1.train.batch_plan import BUCKET_ELEMENTS, SHARED_EXPERTS, BatchPlan, check_experts
from mm1.train.config import COLLECTIVE_TIMEOUT_S, OptimConfig, TrainConfig
from mm1.train.gather_weights import whole_weights
from mm1.train.gradients import clip_parts, dropped_gradients, own_gradients, squared_norm
from mm1.train.optim import parameter_groups
from mm1.train.optimizer_state import OptimizerState, Slots, load_state, read_state
from mm1.train.phases import Phases, timed
from mm1.train.ranks import Ranks, key_value_store

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
FORK_SAFE = ("RDMAV_FORK_SAFE", "IBV_FORK_SAFE")
"""Variables with which libibverbs keeps registered memory out of forked processes; the loader's are forked earlier."""


def start_processes(collective_timeout_s: float = COLLECTIVE_TIMEOUT_S) -> tuple[int, int]:
    """Join the other processes that torchrun started.

    Args:
        collective_timeout_s: time limit of a collective in seconds.

    Returns:
        Rank and world size.
    """
    deepspeed = _import_deepspeed()
    has_gpu, local_rank = torch.cuda.is_available(), int(os.environ.get("LOCAL_RANK", "0"))
    rank, world_size = rank_of_environment()
    if has_gpu:
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        for name in FORK_SAFE:  # should a library fork after this, it must not break RDMA
            os.environ.setdefault(name, "1")
        # A rank may have waited for storage until now; the group below has a short limit.
        Ranks.joined(rank, world_size).meet("opening the mixture")
        dist.init_process_group(
            "nccl" if has_gpu else "gloo",
            timeout=timedelta(seconds=collective_timeout_s),
            store=key_value_store(),
            rank=rank,
            world_size=world_size,
            device_id=torch.device("cuda", local_rank) if has_gpu and world_size > 1 else None,
        )
        deepspeed.init_distributed(verbose=False)
    return rank, world_size


def rank_of_environment() -> tuple[int, int]:
    """Return rank and world size as set by torchrun, without a process group; 0 and 1 without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def limit_collectives(seconds: float) -> None:
    """Set the time limit of all process groups, also of those that DeepSpeed has created."""
    for group in [*distributed_c10d._world.pg_map]:
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def stop_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed.runtime import compiler
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        compiler.compile = lambda: lambda function: function
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def build_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe: fused AdamW, Adafactor, or Muon with fused AdamW for the rest."""
    if config.name == "adafactor":
        return Adafactor(
            [{key: value for key, value in group.items() if key not in ("use_muon", "betas", "eps")} for group in groups],
            parameter_scale=config.parameter_scale,
            first_moment=config.first_moment,
        )
    groups = [{key: value for key, value in group.items() if key != "names"} for group in groups]
    if config.name == "muon":
        from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

        return MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW, adam_optimizer_kwargs={"fused": True})
    return torch.optim.AdamW(
        [{key: value for key, value in group.items() if key != "use_muon"} for group in groups], fused=True
    )


class Engine:
    """A model with its optimizer, partitioned over the processes.

    Args:
        model: the model; its frozen parameters do not require gradients.
        peak_lr: peak learning rate.
        optim: optimizer settings.
        train: precision, ZeRO stage, expert-parallel size.
        batch_plan: micro-batch and accumulation of this world.

    Raises:
        ConfigurationError: the processes cannot share the model's experts.
    """

    def __init__(
        self, model: nn.Module, *, peak_lr: float, optim: OptimConfig, train: TrainConfig, batch_plan: BatchPlan
    ) -> None:
        deepspeed = _import_deepspeed()
        if train.expert_parallel > 1:
            config: Any = model.config
            check_experts(train.expert_parallel, config.num_experts if config.is_moe else 0, config.text_config.model_type)
        self.batch_plan = batch_plan
        self.rank = dist.get_rank()
        self.model = model
        self.stage = train.zero_stage
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self.num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        self._clip = optim.clip
        self.names: list[list[str]] = []
        self.trained: list[nn.Parameter] = []
        self._peak_lr, self._optim = peak_lr, optim
        self._shares_experts = train.expert_parallel > 1
        self._autocast = train.dtype == "bfloat16" and self.stage == 0
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=self._optimizer,
            dist_init_required=False,
            config=_settings(train, batch_plan),
        )
        if train.expert_parallel > 1:
            _use_float32_routers(model)
        self._wrapper = self._engine.optimizer
        self._inner: torch.optim.Optimizer = getattr(self._wrapper, "optimizer", self._wrapper)
        self.device = self._engine.device
        self.phases = Phases(self.device)
        self._engine.allreduce_gradients = self._reduction(self._engine.allreduce_gradients)
        self._expert_group = _expert_group(train.expert_parallel)
        limit_collectives(train.collective_timeout_s)
        if isinstance(self._inner, Adafactor) and self.stage:
            self._inner.partition(self._slots().layout(), self._sum_on_device)

    def _optimizer(self, _: Any) -> torch.optim.Optimizer:
        """Build the optimizer; DeepSpeed calls this once it has replaced the layers of the model."""
        groups = parameter_groups(self.model, self._optim, self._peak_lr)
        if self._shares_experts and self.stage < 3 and not any(group.get("moe") for group in groups):
            raise ConfigurationError(  # an assertion of DeepSpeed, which wants such a group at these stages
                "train.frozen: it freezes all experts, which train.expert_parallel above 1 does not support at "
                "train.zero_stage=1 or 2: set train.expert_parallel=1 or train.zero_stage=3"
            )
        self.names = [group["names"] for group in groups]
        self.trained = [parameter for group in groups for parameter in group["params"]]
        return build_optimizer(groups, self._optim)

    def _reduction(self, reduce_gradients: Callable[..., Any]) -> Callable[..., Any]:
        """Return DeepSpeed's reduction at the end of the backward pass as a phase."""

        def run(*arguments: Any, **options: Any) -> Any:
            with self.phases("reduce"):
                return reduce_gradients(*arguments, **options)

        return run

    @timed("forward")
    def __call__(self, **batch: Any) -> Any:
        """Forward pass."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            return self._engine(**batch)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run forward passes without effect on the next step: in eval mode, without gradients, random numbers restored."""
        devices = [self.device] if self.device.type == "cuda" else []
        self._engine.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices):
                yield
        finally:
            self._engine.train()

    @timed("backward")
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of one micro-batch; the last one of a step also reduces over the processes."""
        self._engine.backward(loss)

    def finish_micro_batch(self) -> None:
        """Tell DeepSpeed that a micro-batch other than the last of its step is done."""
        self._engine.step()

    @timed("optimizer")
    def squared_norm(self) -> torch.Tensor:
        """Compute this process's share of the squared norm of the whole gradient, after the last micro-batch.

        Returns:
            A float64 number on the device. The sum over all processes is the square of the norm before clipping (with Muon and
            ZeRO: of Muon's updates and AdamW's gradients).
        """
        if self.stage == 0 and dist.get_rank():  # every process has the whole gradient: only rank 0 counts it
            return torch.zeros((), dtype=torch.float64, device=self.device)
        return squared_norm(own_gradients(self._wrapper, self.stage), self.device)

    @timed("optimizer")
    def step(self, rate_factor: float, norm: float) -> None:
        """Clip the gradient and update the weights.

        Args:
            rate_factor: multiplier of every group's peak learning rate.
            norm: norm of the whole gradient.
        """
        if self._clip:
            clip_parts(own_gradients(self._wrapper, self.stage), self._clip, norm)
        for group in self._inner.param_groups:
            group["lr"] = group["peak_lr"] * rate_factor
        self._engine.step()

    def skip_step(self) -> None:
        """Drop the gradient of the step: weights and optimizer state stay as they are."""
        from deepspeed.utils import logger

        with dropped_gradients(self._wrapper, self.stage):
            logger.disabled = True  # it reports gradients that are not finite
            self._engine.step()
            logger.disabled = False

    @timed("reduce")
    def all_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the processes, in place and without waiting for the device."""
        if self.batch_plan.world_size > 1:
            dist.all_reduce(values)
        return values

    def _sum_on_device(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor that may be on the host, where an offloaded optimizer is."""
        return self.all_sum(values.to(self.device)).to(values.device)

    @timed("reduce")
    def reduce(self, values: list[float]) -> list[float]:
        """Sum host numbers over the processes, in float64."""
        if self.batch_plan.world_size == 1:
            return values
        return self.all_sum(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> OptimizerState:
        """Return this rank's part of the optimizer state, as views that the next step changes."""
        state = read_state(self._slots(), keep_masters=self._keeps_masters)
        if self.stage == 0 and self.batch_plan.world_size > 1:  # every rank has all of it: each saves a share
            own = sorted(state.numbers)[dist.get_rank() :: self.batch_plan.world_size]
            state = state.only(set(own))
        return state

    def load_state(self, saved: StateReader, masters: Tensors | None = None) -> None:
        """Load a saved state of any world size and ZeRO stage.

        Args:
            saved: the state.
            masters: the model's weights in float32, for a state that was saved without master weights.

        Raises:
            CheckpointError: the state lacks a parameter that is trained.
        """
        load_state(self._slots(), saved, masters if self._keeps_masters else None)

    @property
    def _keeps_masters(self) -> bool:
        """Whether the optimizer keeps float32 weights that are more precise than the model's own."""
        return self.stage > 0 and any(parameter.dtype != torch.float32 for parameter in self.trained)

    def _slots(self) -> Slots:
        expert_rank = 0 if self._expert_group is None else dist.get_rank(self._expert_group)
        return Slots(self.model, self._inner, self._wrapper, self.stage, expert_rank)

    def weights(self, names: Container[str] | None = None) -> Tensors | None:
        """Gather the whole model's weights on rank 0, with transformers' names; every process calls this.

        Args:
            names: parameters to gather; all by default.

        Returns:
            None if the model itself has them whole and by those names; empty on the other ranks.
        """
        if self.stage < 3 and self._expert_group is None:
            return None
        keep = dist.get_rank() == 0
        return whole_weights(self.model, self._gathered, self._expert_group, keep=keep, names=names)

    def _gathered(self, parameter: nn.Parameter) -> AbstractContextManager[None]:
        if self.stage < 3:
            return nullcontext()
        gathered: AbstractContextManager[None] = _import_deepspeed().zero.GatheredParameters([parameter])
        return gathered


def _use_float32_routers(model: nn.Module) -> None:
    """Make the routers of DeepSpeed's expert-parallel layers compute their scores in float32, as those that they replaced."""
    from deepspeed.moe.ep_router import TokenChoiceTopKRouter

    for module in model.modules():
        if isinstance(module, TokenChoiceTopKRouter):
            compute_in_float32(module.gate)


def _expert_group(size: int) -> dist.ProcessGroup | None:
    if size == 1:
        return None
    from deepspeed.utils import groups

    group: dist.ProcessGroup = groups._get_expert_parallel_group(f"ep_size_{size}")
    return group


def _settings(train: TrainConfig, batch_plan: BatchPlan) -> dict[str, Any]:
    bfloat16 = train.dtype == "bfloat16" and train.zero_stage > 0
    zero: dict[str, Any] = {"stage": train.zero_stage, "overlap_comm": torch.cuda.is_available()}
    zero |= {"reduce_bucket_size": BUCKET_ELEMENTS, "stage3_prefetch_bucket_size": BUCKET_ELEMENTS}
    if train.offload == "optimizer":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    experts = {
        "enabled": train.expert_parallel > 1,
        "autoep_size": train.expert_parallel,
        "preset_model": SHARED_EXPERTS,
        "moe_layer_pattern": r"model\.language_model\.layers\.\d+\.mlp",
    }
    return {
        "train_micro_batch_size_per_gpu": batch_plan.micro_batch,
        "gradient_accumulation_steps": batch_plan.accumulation,
        "gradient_clipping": 0.0,  # see mm1.train.gradients
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # DeepSpeed compiles its own CPU Adam at first use; torch's fused one is as fast and needs no compiler.
        "zero_force_ds_cpu_optimizer": False,
        "expert_parallel": experts,
        "bf16": {"enabled": bfloat16, "check_grad_overflow": False},  # the norm is known before the step
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": {"float32": "fp32", "bfloat16": "bf16"}[train.reduce_dtype],
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
    }
