"""Where a model answers: on a GPU in bfloat16 where there is one, else on the CPU in float32."""

from __future__ import annotations

from typing import Any

import torch


def choose_device() -> tuple[torch.device, torch.dtype]:
    """Device and type of weights for answering, on this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()), torch.bfloat16
    return torch.device("cpu"), torch.float32


def settle(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move a model to a device, its weights to a type.

    Only weights: ``model.to(dtype)`` would also round the tables of rotary positions, which far from the start then turn
    every position into another one.

    Returns:
        The same model, changed.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device)
