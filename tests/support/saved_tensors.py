"""What autograd keeps of a real forward pass, to compare forecasts with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def saved_bytes(model: nn.Module, forward: Callable[[], object], autocast: bool = False, length: int = 0) -> int:
    """Bytes of the distinct tensors that autograd keeps, but parameters, their copies, and the mask that only a CPU needs."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    copies = {tuple(parameter.shape) for parameter in model.parameters()} if autocast else set()
    copies |= {(*shape[:-2], shape[-1], shape[-2]) for shape in copies if len(shape) > 1}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        shape = tuple(tensor.shape)
        if storage.data_ptr() not in parameters and shape not in copies and shape != (1, 1, length, length):
            kept[storage.data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
