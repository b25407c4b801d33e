"""Writing checkpoints: files to their content addresses, then the manifest, so that a crash never leaves a partial one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from transformers.core_model_loading import revert_weight_conversion

from mm1.checkpoint.adapters import base_files
from mm1.checkpoint.layout import STATE_NAME, rank_names
from mm1.checkpoint.pieces import StatePiece, tensors_of
from mm1.checkpoint.stream import write_safetensors
from mm1.config.resolve import canonical_json
from mm1.manifests import Files
from mm1.modeling.export import export
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store

SHARD_BYTES = 5_000_000_000
"""Maximum size of one file of weights, unless a single tensor is larger."""
WEIGHTS = ".safetensors"
"""Part of the names of the files that change from step to step (weights, and their index)."""


def put_model(
    store: Store,
    model: MM1ForConditionalGeneration,
    processor: MM1Processor,
    folder: Path,
    unchanged: Files | None = None,
    weights: dict[str, torch.Tensor] | None = None,
) -> Files:
    """Store a model and its processor as a Hugging Face folder.

    Args:
        store: target store.
        model: the model.
        processor: its processor.
        folder: folder for temporary files.
        unchanged: files of a previous checkpoint of the run; all but the weights are taken from it. This saves time, and keeps
            the files stable: a loaded tokenizer can write files that differ from its own, with the same meaning.
        weights: the model's weights, if the model itself does not hold them whole.

    Returns:
        The folder's files; equal weights give equal digests.
    """
    if unchanged is None:
        fixed = store.put_folder(export(model, processor, folder, weights={}))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        fixed = unchanged
    own = weights if weights is not None else dict(model.named_parameters())  # a tied weight appears once
    return {**{name: ref for name, ref in fixed.items() if WEIGHTS not in name}, **_put_weights(store, model, own, folder)}


def put_base(
    store: Store,
    model: MM1ForConditionalGeneration,
    processor: MM1Processor,
    folder: Path,
    origin: Store,
    files: Files,
) -> Files:
    """Store the base model of adapters, whose weights are those of another checkpoint.

    Args:
        store: target store.
        model: the model with its adapters.
        processor: its processor.
        folder: folder for temporary files.
        origin: store of the other checkpoint.
        files: that checkpoint's files; only if its store is another one are the weights copied.

    Returns:
        The base model's files.
    """
    fixed = store.put_folder(export(model, processor, folder, weights={}))
    weights = {name: ref for name, ref in base_files(files).items() if WEIGHTS in name}
    if origin.uri != store.uri:
        weights = {name: store.put_file(origin.local_path(ref)) for name, ref in weights.items()}
    return {**{name: ref for name, ref in fixed.items() if WEIGHTS not in name}, **weights}


def _put_weights(store: Store, model: MM1ForConditionalGeneration, weights: dict[str, torch.Tensor], folder: Path) -> Files:
    """Store weights with the names and shards of transformers."""
    saved: dict[str, torch.Tensor] = revert_weight_conversion(model, weights)
    split = split_torch_state_dict_into_shards(saved, max_shard_size=SHARD_BYTES)
    files = {}
    for name, members in split.filename_to_tensors.items():
        ref = write_safetensors(folder / name, {member: saved[member] for member in members}, {"format": "pt"})
        files[name] = store.take_blob(folder / name, ref)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        files[f"model{WEIGHTS}.index.json"] = store.put_bytes(canonical_json(index).encode())
    return files


def put_rank_state(
    store: Store,
    rank: int,
    world_size: int,
    pieces: Sequence[StatePiece],
    numbers: dict[str, dict[str, float]],
    scalars: Sequence[str],
    folder: Path,
) -> Files:
    """Store one rank's part of the optimizer state; every rank calls this.

    Args:
        store: target store.
        rank: this rank.
        world_size: number of ranks.
        pieces: pieces of this rank, contiguous and on the CPU.
        numbers: numbers in each parameter's state.
        scalars: names of the numbers that the optimizer keeps as tensors.
        folder: folder for temporary files.
    """
    names = rank_names(rank, world_size)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = write_safetensors(folder / names.tensors, tensors_of(pieces))
    description = {"pieces": [piece.index() for piece in pieces], "numbers": numbers, "scalars": list(scalars)}
    return {
        names.tensors: store.take_blob(folder / names.tensors, tensors),
        names.description: store.put_bytes(canonical_json(description).encode()),
    }


def put_run_state(store: Store, run: dict[str, Any]) -> Files:
    """Store the state of the run that all ranks share; rank 0 calls this."""
    return {STATE_NAME: store.put_bytes(canonical_json(run).encode())}
