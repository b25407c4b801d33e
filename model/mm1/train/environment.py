"""The machine and the libraries of a trainer process, for the record of a run."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from mm1 import machine

LIBRARIES = ("torch", "deepspeed", "transformers")


def environment() -> dict[str, float | int | str]:
    """Describe this process: processor, cores, memory in GB (10^9 bytes), GPU, threads of torch, versions."""
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "memory_gb": round(machine.memory_bytes() / 1e9),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
