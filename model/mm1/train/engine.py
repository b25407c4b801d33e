"""The DeepSpeed engine behind one small interface; the only file that imports deepspeed.

One code path for one CPU process and many GPUs: processes find each other through what torchrun sets (RANK, WORLD_SIZE,
MASTER_ADDR); tensors travel over gloo on CPUs and NCCL on GPUs. ZeRO stages 0 to 2, float32, or bfloat16 with float32 masters.

    forward(batch) -> output, backward(loss), [again for each micro-batch of the step] -> step(rate factor)
    state() / load_state(): this rank's part of the optimiser as flat named tensors and plain numbers, nothing pickled

Measured here and worked around: DeepSpeed gives Muon's kernels to torch.compile, which on a CPU takes seconds of import, and
of compilation for each shape, for a millisecond's work, so there they run as they stand; its shared-memory collectives are
built with the C++ compiler at the first use, which gloo makes needless; and at stage 0 it does not keep the gradient's norm,
so it is taken here.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from mm1.errors import CheckpointError
from mm1.train.config import OptimConfig, TrainConfig
from mm1.train.layout import Layout
from mm1.train.optim import global_norm

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]


def start_processes() -> tuple[int, int]:
    """Join the other processes that torchrun started.

    Returns:
        Rank and number of processes.
    """
    deepspeed = _import_deepspeed()
    if not dist.is_initialized():
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    return dist.get_rank(), dist.get_world_size()


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
    """The optimiser of a recipe: fused AdamW, or Muon with a fused AdamW beside it."""
    groups = [{key: value for key, value in group.items() if key != "names"} for group in groups]
    if config.name == "muon":
        from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

        return MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW, adam_optimizer_kwargs={"fused": True})
    for group in groups:
        group.pop("use_muon")
    return torch.optim.AdamW(groups, fused=True)


class Engine:
    """A model with its optimiser, spread over the processes.

    Args:
        model: the model; its trainable parameters are in ``groups``.
        groups: parameter groups of :func:`mm1.train.optim.parameter_groups`.
        optim: optimiser settings.
        train: precision and ZeRO stage.
        layout: micro-batch and accumulation of this world.
    """

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], optim: OptimConfig, train: TrainConfig, layout: Layout
    ) -> None:
        deepspeed = _import_deepspeed()
        self.layout = layout
        self.model = model
        self.stage = train.zero_stage
        self.names = [group["names"] for group in groups]
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.clip = optim.clip
        self.grad_norm = 0.0
        """Norm of the whole gradient of the last step, before clipping."""
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer(groups, optim),
            dist_init_required=False,
            config=_settings(train, layout, self.clip if self.stage else 0.0),
        )
        wrapper = self._engine.optimizer
        self._inner: torch.optim.Optimizer = getattr(wrapper, "optimizer", wrapper)
        self.device = self._engine.device

    def __call__(self, **batch: Any) -> Any:
        """Forward pass."""
        return self._engine(**batch)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of one micro-batch; the last one of a step also reduces over the processes."""
        self._engine.backward(loss)

    def finish_micro_batch(self) -> None:
        """Tell DeepSpeed that a micro-batch which is not the last of its step is done."""
        self._engine.step()

    def step(self, rate_factor: float) -> None:
        """Update the weights after the last micro-batch.

        Args:
            rate_factor: what every group's peak learning rate is multiplied by.
        """
        for group in self._inner.param_groups:
            group["lr"] = group["peak_lr"] * rate_factor
        if self.stage == 0:
            norm = global_norm(self.trained)
            if self.clip:
                nn.utils.clip_grads_with_norm_(self.trained, self.clip, norm)
            self.grad_norm = float(norm)
        self._engine.step()
        if self.stage:
            self.grad_norm = float(self._engine.get_global_grad_norm() or 0.0)

    def reduce(self, values: list[float]) -> list[float]:
        """Sum numbers over the processes, in float64."""
        if self.layout.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def gather(self, value: Any) -> list[Any]:
        """A small plain value of every rank, on every rank."""
        if self.layout.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.layout.world_size
        dist.all_gather_object(values, value)
        return values

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """This rank's part of the optimiser.

        Returns:
            Tensors by ``<group>.<position>.<key>``, where the key is ``master`` for float32 weights that ZeRO keeps, else
            the optimiser's own; and the numbers that are no tensors, with the layout that the tensors have.
        """
        tensors: Tensors = {}
        numbers: dict[str, Any] = {}
        for name, parameter in self._slots():
            if self.stage:
                tensors[f"{name}.master"] = parameter.detach()
            for key, value in sorted(self._inner.state.get(parameter, {}).items()):
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}.{key}"] = value.detach()
                else:
                    numbers[f"{name}.{key}"] = value
        return tensors, {
            "numbers": numbers,
            "zero_stage": self.stage,
            "world_size": self.layout.world_size,
            "parameters": self.names,
        }

    def load_state(self, tensors: Tensors, description: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave.

        Raises:
            CheckpointError: it is of another number of processes, ZeRO stage or set of parameters.
        """
        own = {"zero_stage": self.stage, "world_size": self.layout.world_size, "parameters": self.names}
        for key, value in own.items():
            if description[key] != value:
                what = "other parameters" if key == "parameters" else f"{key}={description[key]}, not {value}"
                raise CheckpointError(f"the optimiser's state was saved with {what}: continue with the same setting")
        slots = dict(self._slots())
        for name, parameter in slots.items():
            if self.stage:
                parameter.data.copy_(tensors[f"{name}.master"])
            self._inner.state[parameter] = {}
        for name, tensor in tensors.items():
            slot, _, key = name.rpartition(".")
            if key != "master":
                parameter = slots[slot]
                # A step count stays where the optimiser wants it; moments go where their weights are.
                self._inner.state[parameter][key] = (
                    tensor.clone() if tensor.ndim == 0 else tensor.to(parameter.device, copy=True)
                )
        for name, number in description["numbers"].items():
            slot, _, key = name.rpartition(".")
            self._inner.state[slots[slot]][key] = number

    def _slots(self) -> list[tuple[str, torch.Tensor]]:
        """What the optimiser itself holds: whole parameters at stage 0, one flat float32 partition a group above."""
        return [
            (f"{number}.{position}", parameter)
            for number, group in enumerate(self._inner.param_groups)
            for position, parameter in enumerate(group["params"])
        ]


def _settings(train: TrainConfig, layout: Layout, clip: float) -> dict[str, Any]:
    bfloat16 = train.dtype == "bfloat16"
    return {
        "train_micro_batch_size_per_gpu": layout.micro_batch,
        "gradient_accumulation_steps": layout.accumulation,
        "gradient_clipping": clip,
        "zero_optimization": {"stage": train.zero_stage, "overlap_comm": torch.cuda.is_available()},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
    }
