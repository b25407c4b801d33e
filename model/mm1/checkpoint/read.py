"""Reading checkpoints: the model, and the trainer state to resume from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mm1.checkpoint.folder import load_folder
from mm1.checkpoint.layout import STATE_NAME, rank_names
from mm1.checkpoint.pieces import StateReader
from mm1.errors import CheckpointError, ConfigurationError, HardwareError, Mm1Error, NetworkError, OutOfMemory, typed
from mm1.errors.recognize import FORBIDDEN
from mm1.manifests import Checkpoint
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store

FAILURES = (Mm1Error, OSError, ValueError, KeyError, RuntimeError, SafetensorError)
"""Exceptions of files that are missing, damaged or of another kind, and of disks and stores that cannot be read."""


def load_model(
    store: Store,
    manifest: Checkpoint,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    *,
    verify: bool = True,
    merge: bool = False,
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Load the model of a checkpoint; every file is verified first.

    Args:
        store: store of the checkpoint's blobs.
        manifest: the checkpoint.
        folder: folder for the files; it can be deleted after loading.
        dtype: dtype of the weights.
        verify: False if the files have just been verified.
        merge: add its adapter to the weights, instead of computing it in each layer.

    Returns:
        The model in evaluation mode, and its processor.

    Raises:
        CheckpointError: a file does not match its digest or is missing, or the files are not a model.
    """
    message = f"cannot load the checkpoint of step {manifest.step}"
    try:
        store.get_folder(manifest.model, folder, verify=verify)
    except FAILURES as error:
        raise _typed(message, error) from None
    try:
        return load_folder(folder, dtype, merge=merge)
    except ConfigurationError as error:  # the files are those of the manifest, not a choice of the user's
        raise CheckpointError(f"{message}: {error}") from None
    except FAILURES as error:
        raise _typed(message, error) from None


def _typed(message: str, error: Exception) -> Mm1Error:
    """Return the error for a checkpoint that cannot be loaded: a full disk or an unreachable store is not damage."""
    cause = typed(error)
    keeps_class = isinstance(cause, NetworkError | OutOfMemory | HardwareError) or isinstance(error, ConfigurationError)
    if cause is not None and (keeps_class or (isinstance(error, OSError) and error.errno in FORBIDDEN)):
        return type(cause)(f"{message}: {cause}")
    return CheckpointError(f"{message}: {error}")


@dataclass(frozen=True)
class TrainerState:
    """State of a run to resume from."""

    optimizer: StateReader
    run: dict[str, Any]
    """State of the run: counters, position in the data."""


def load_state(store: Store, manifest: Checkpoint) -> TrainerState:
    """Open the trainer state of all ranks; large files are fetched only when they are read.

    Args:
        store: store of the checkpoint's blobs.
        manifest: a checkpoint whose files have been verified.

    Raises:
        CheckpointError: a file is missing or is not a trainer state.
    """
    try:
        run = json.loads(store.get_bytes(manifest.trainer[STATE_NAME]))
        indices: dict[str, list[list[Any]]] = {}
        numbers: dict[str, dict[str, float]] = {}
        scalars: set[str] = set()
        for rank in range(manifest.world_size):
            names = rank_names(rank, manifest.world_size)
            description = json.loads(store.get_bytes(manifest.trainer[names.description]))
            indices[names.tensors] = description["pieces"]
            numbers |= description["numbers"]
            scalars |= set(description["scalars"])
    except FAILURES as error:
        raise _typed(f"cannot load the trainer state of step {manifest.step}", error) from None
    return TrainerState(
        StateReader(indices, lambda name: store.local_path(manifest.trainer[name]), numbers, scalars),
        run,
    )
