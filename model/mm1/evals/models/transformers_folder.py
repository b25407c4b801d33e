"""Loading and validation of a folder in Hugging Face format with plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mm1.checkpoint.folder import quiet_transformers
from mm1.errors import CheckpointError, ConfigurationError, HardwareError, NetworkError, OutOfMemory, typed
from mm1.evals.models.config import ModelSettings
from mm1.generation.device import choose_device
from mm1.lineage.text import listed


def load_folder(folder: Path, settings: ModelSettings) -> tuple[Any, Any]:
    """Load a model and its processor; only files of the folder are read.

    Raises:
        ConfigurationError: it is no image-text-to-text model, a package is missing, or its code may not run.
        CheckpointError: tensors are missing or of another shape.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    device, dtype = choose_device()
    if settings.dtype != "auto":
        dtype = getattr(torch, settings.dtype)
    shared = {"local_files_only": True, "trust_remote_code": settings.trust_remote_code}
    placement = {"device_map": settings.device_map} if settings.device_map else {}
    try:
        with quiet_transformers():
            model, info = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, **placement, **shared
            )
            processor = AutoProcessor.from_pretrained(folder, **shared)
    except Exception as error:
        raise _explained(folder, error) from error
    missing = sorted(map(str, [*info["missing_keys"], *(key[0] for key in info.get("mismatched_keys", ()))]))
    if missing:
        raise CheckpointError(f"{folder}: {listed(missing)}: tensors are missing or of another shape, and would be random")
    if not hasattr(processor, "tokenizer"):
        raise ConfigurationError(f"{folder}: its processor has no tokenizer: files of the processor are missing")
    return (model if settings.device_map else model.to(device)), processor


def _explained(folder: Path, error: Exception) -> Exception:
    """Return the error for a folder that transformers cannot load."""
    text = " ".join(str(error).split())
    if isinstance(cause := typed(error), OutOfMemory | HardwareError | NetworkError):
        return cause
    if isinstance(error, ImportError):
        return ConfigurationError(f"{folder}: its processor or its placement needs a package: {text}")
    if "trust_remote_code" in text:
        return ConfigurationError(
            f"{folder} has code of its own: read it, and allow it with --trust-remote-code if you trust where it is from"
        )
    if "Unrecognized configuration class" in text or "does not recognize this architecture" in text:
        return ConfigurationError(f"{folder} is not an image-text-to-text model of the installed transformers: {text[:200]}")
    return ConfigurationError(f"{folder} cannot be loaded by transformers: {text[:500]}")
