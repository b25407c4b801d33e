"""The reduced gradient of a step: this process's part of it, and dropping it instead of updating the weights.

After the last micro-batch of a step, the parts of all processes are disjoint and make up the whole gradient (at ZeRO stage 0
every process has all of it). Norm and clipping therefore work on parts, for every stage, layout and kind of parameter::

    own_gradients(wrapper, stage) -> tensors -> sum of squares, summed over processes -> norm -> clip in place

Observed with DeepSpeed 0.19: stages 1 and 2 keep the parts in ``averaged_gradients`` by group; stage 1 with bfloat16 is another
class, with flat partitions; stage 3 has one part of each parameter. With offloading the parts are the gradients of the host's
partitions. With Muon, stages 1 and 2 replace the gradients of matrices by Muon's updates before this module sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def own_gradients(wrapper: Any, stage: int) -> list[torch.Tensor]:
    """Return this process's part of the gradient; changing the tensors changes the next update.

    Args:
        wrapper: DeepSpeed's optimizer; at stage 0 the optimizer itself.
        stage: ZeRO stage.
    """
    if stage == 0:
        parameters = [parameter for group in wrapper.param_groups for parameter in group["params"]]
        return [parameter.grad for parameter in parameters if parameter.grad is not None]
    if _is_bfloat16_stage_1(wrapper):
        return list(wrapper.fp32_groups_gradient_flat_partition)
    if getattr(wrapper, "offload_optimizer", False) or getattr(wrapper, "cpu_offload", False):
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # copies to the host are asynchronous
        holders = wrapper.fp32_partitioned_groups_flat if stage == 3 else wrapper.single_partition_of_fp32_groups
        return [holder.grad for holder in holders if holder.grad is not None]
    return [part for group in wrapper.averaged_gradients.values() for part in group]


@torch.no_grad()
def squared_norm(parts: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Compute the sum of the squares of a part of the gradient, in float64 on a device."""
    return nn.utils.get_total_norm(parts).to(device).double().square()


@torch.no_grad()
def clip_parts(parts: list[torch.Tensor], max_norm: float, norm: float) -> None:
    """Clip a part of the gradient in place, as torch's ``clip_grad_norm_`` does with the whole.

    Args:
        parts: this process's part.
        max_norm: norm to clip to.
        norm: norm of the whole gradient.
    """
    factor = (max_norm / (torch.tensor(norm, dtype=torch.float32) + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(parts, float(factor))


@contextmanager
def dropped_gradients(wrapper: Any, stage: int) -> Iterator[None]:
    """Let DeepSpeed's next step drop the gradient, and leave weights and optimizer state as they are.

    At the stages that have one, the step takes DeepSpeed's own path for gradients that are not finite.
    """
    if stage == 0:
        name, replacement = "step", lambda: None
    elif _is_bfloat16_stage_1(wrapper):
        name, replacement = "step", wrapper.clear_hp_grads
    elif stage == 3:
        name, replacement = "_overflow_check_and_loss_scale_update", lambda **_: setattr(wrapper, "overflow", True)
    else:
        name, replacement = "check_overflow", lambda **_: setattr(wrapper, "overflow", True)
    checks = getattr(wrapper, "check_grad_overflow", None)
    wrapper.check_grad_overflow = True
    setattr(wrapper, name, replacement)
    try:
        yield
    finally:
        delattr(wrapper, name)
        wrapper.check_grad_overflow = checks


def _is_bfloat16_stage_1(wrapper: Any) -> bool:
    return hasattr(wrapper, "bf16_groups")
