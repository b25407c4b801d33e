"""Device and dtype for inference: a GPU in bfloat16 if there is one, else the CPU in float32."""

from __future__ import annotations

from typing import Any

import torch


def choose_device() -> tuple[torch.device, torch.dtype]:
    """Choose the device and the dtype for inference on this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()), torch.bfloat16
    return torch.device("cpu"), torch.float32


def move_to(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move a model to a device and cast its weights.

    Only weights: ``model.to(dtype)`` would also round the rotary frequencies, which shifts positions far from the start.

    Returns:
        The same model, changed in place.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device)
