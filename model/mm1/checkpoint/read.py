"""Reading checkpoints: the model for whoever uses it, the trainer's state for whoever goes on training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mm1.checkpoint.layout import STATE_NAME, rank_names
from mm1.errors import CheckpointError, DataError
from mm1.manifests import Checkpoint
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store


def load_model(
    store: Store, manifest: Checkpoint, folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Load the model of a checkpoint; every file is verified first.

    Args:
        store: where the checkpoint's blobs are.
        manifest: the checkpoint.
        folder: where the files are laid out; it must outlive the loading only.
        dtype: type of the weights.

    Returns:
        The model in evaluation mode, and its processor.

    Raises:
        CheckpointError: a file does not match its digest, is missing or is no model.
    """
    try:
        store.get_folder(manifest.model, folder)
        model = MM1ForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        processor = MM1Processor.from_pretrained(folder, local_files_only=True)
    except (DataError, OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint of step {manifest.step} cannot be loaded: {error}") from None
    return model.eval(), processor


@dataclass(frozen=True)
class TrainerState:
    """What one rank needs to go on."""

    tensors: dict[str, torch.Tensor]
    description: dict[str, Any]
    """Plain numbers of the optimiser and the layout of its tensors."""
    run: dict[str, Any]
    """State of the run, the same on all ranks: counters, position in the data."""


def load_state(store: Store, manifest: Checkpoint, folder: Path, rank: int, world_size: int) -> TrainerState:
    """Load the trainer's state of one rank; its files are verified first.

    Raises:
        CheckpointError: it is of another number of ranks, or a file is damaged or missing.
    """
    if manifest.world_size != world_size:
        raise CheckpointError(
            f"the checkpoint of step {manifest.step} was saved by {manifest.world_size} processes, and there are {world_size}: "
            f"start {manifest.world_size}"
        )
    names = rank_names(rank, world_size)
    try:
        wanted = {name: manifest.trainer[name] for name in (STATE_NAME, names.tensors, names.description)}
        store.get_folder(wanted, folder)
        tensors = load_file(folder / names.tensors)
        description = json.loads((folder / names.description).read_bytes())
        run = json.loads((folder / STATE_NAME).read_bytes())
    except (KeyError, DataError, OSError, ValueError) as error:
        raise CheckpointError(f"the trainer's state of step {manifest.step} cannot be loaded: {error}") from None
    return TrainerState(tensors, description, run)
