"""What autograd keeps of a real forward pass, to compare forecasts with."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import nn


class _Saved:
    """A tensor that autograd saves; it lives as long as the graph needs it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def saved_bytes(model: nn.Module, forward: Callable[[], object], autocast: bool = False, length: int = 0) -> int:
    """Bytes of the distinct tensors that autograd keeps, but parameters, their copies, and the mask that only a CPU needs."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    copies = {tuple(parameter.shape) for parameter in model.parameters()} if autocast else set()
    copies |= {(*shape[:-2], shape[-1], shape[-2]) for shape in copies if len(shape) > 1}
    saved: list[weakref.ref[_Saved]] = []

    def keep(tensor: torch.Tensor) -> _Saved:
        packed = _Saved(tensor)
        saved.append(weakref.ref(packed))
        return packed

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda packed: packed.tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        output = forward()
    alive = [packed.tensor for reference in saved if (packed := reference()) is not None]
    del output
    kept = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in alive
        if tensor.untyped_storage().data_ptr() not in parameters
        and tuple(tensor.shape) not in copies
        and tuple(tensor.shape) != (1, 1, length, length)
    }
    return sum(kept.values())
