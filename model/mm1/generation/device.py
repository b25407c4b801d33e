"""Device and dtype for inference: a GPU in bfloat16 if there is one, else the CPU in float32, unless they are set."""

from __future__ import annotations

from typing import Any

import torch

from mm1.errors import ConfigurationError

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_chosen = {"device": AUTO, "dtype": AUTO}


def set_inference_device(device: str = AUTO, dtype: str = AUTO) -> None:
    """Set what :func:`choose_device` returns in this process, like ``torch.set_default_device``.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: ``auto`` or a name of :data:`DTYPES`.

    Raises:
        ConfigurationError: there is no such device or dtype.
    """
    if dtype != AUTO and dtype not in DTYPES:
        raise ConfigurationError(f"--dtype: expected {AUTO}, {', '.join(DTYPES)}, got {dtype!r}")
    if device != AUTO:
        _check_device(device)
    _chosen.update(device=device, dtype=dtype)


def choose_device() -> tuple[torch.device, torch.dtype]:
    """Choose the device and the dtype for inference on this machine."""
    if _chosen["device"] != AUTO:
        device = torch.device(_chosen["device"])
    elif torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        device = torch.device("cpu")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return device, DTYPES.get(_chosen["dtype"], dtype)


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(f"--device: expected {AUTO}, cpu, cuda or cuda:N, got {name!r}") from None
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= num_gpus):
        raise ConfigurationError(f"--device {name}: this machine has the CPU and {num_gpus} GPUs that torch can use")


def move_to(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move a model to a device and cast its weights.

    Only weights: ``model.to(dtype)`` would also round the rotary frequencies, which shifts positions far from the start.

    Returns:
        The same model, changed in place.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device)
