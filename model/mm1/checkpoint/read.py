"""Reading checkpoints: the model for whoever uses it, the trainer's state for whoever goes on training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mm1.checkpoint.layout import STATE_NAME, rank_names
from mm1.checkpoint.pieces import StateReader
from mm1.errors import CheckpointError, DataError
from mm1.manifests import Checkpoint
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store


def load_model(
    store: Store, manifest: Checkpoint, folder: Path, dtype: torch.dtype = torch.float32, *, verify: bool = True
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Load the model of a checkpoint; every file is verified first.

    Args:
        store: where the checkpoint's blobs are.
        manifest: the checkpoint.
        folder: where the files are laid out; it must outlive the loading only.
        dtype: type of the weights.
        verify: False where the files were verified just now.

    Returns:
        The model in evaluation mode, and its processor.

    Raises:
        CheckpointError: a file does not match its digest, is missing or is no model.
    """
    try:
        store.get_folder(manifest.model, folder, verify=verify)
        model = MM1ForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        processor = MM1Processor.from_pretrained(folder, local_files_only=True)
    except (DataError, OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint of step {manifest.step} cannot be loaded: {error}") from None
    return model.eval(), processor


@dataclass(frozen=True)
class TrainerState:
    """What is needed to go on."""

    optimizer: StateReader
    run: dict[str, Any]
    """State of the run: counters, position in the data."""


def load_state(store: Store, manifest: Checkpoint) -> TrainerState:
    """Open the trainer's state of all ranks; of the large files only those are fetched that are read from.

    Args:
        store: where the checkpoint's blobs are.
        manifest: a checkpoint whose files were verified.

    Raises:
        CheckpointError: a file is missing or is no state.
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
    except (KeyError, DataError, OSError, ValueError) as error:
        raise CheckpointError(f"the trainer's state of step {manifest.step} cannot be loaded: {error}") from None
    return TrainerState(
        StateReader(indices, lambda name: store.local_path(manifest.trainer[name]), numbers, scalars),
        run,
    )
