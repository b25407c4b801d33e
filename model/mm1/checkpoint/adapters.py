"""LoRA adapters of a model, with peft: attached to be trained or served, merged to be exported, and their files.

    model, LoraConfig of peft -> attach            -> the same model, whose adapted layers compute base + B A
    its adapter's tensors     -> put_adapted       -> files of the base model (not stored again) + adapter/
    folder with adapter/      -> load_adapter      -> the same model, unmerged or merged

``adapter/`` is a folder of peft: ``adapter_config.json`` and ``adapter_model.safetensors``. Parts that are trained whole next
to adapters are peft's ``modules_to_save``, and are in the same file. The class of the model does not change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mm1.checkpoint.stream import write_safetensors
from mm1.config.resolve import canonical_json
from mm1.errors import CheckpointError, ConfigurationError
from mm1.manifests import Files
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.store.base import Store

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

FOLDER = "adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of all names in peft's files."""


def is_adapted(model: Any) -> bool:
    """Whether a model has adapters that are not merged."""
    return bool(getattr(model, "peft_config", None))


def has_adapter(files: Files) -> bool:
    """Whether the files of a model have an adapter."""
    return f"{FOLDER}/{CONFIG}" in files


def adapter_names(model: MM1ForConditionalGeneration) -> list[str]:
    """Return the names of a model's parameters that its adapter has, trained or frozen."""
    active = ".modules_to_save.default."
    return [name for name, _ in model.named_parameters() if ".lora_" in name or active in name]


def attach(model: MM1ForConditionalGeneration, config: LoraConfig) -> MM1ForConditionalGeneration:
    """Give a model fresh adapters, which change nothing yet; only they, and the parts to be trained whole, require gradients.

    Args:
        model: changed in place.
        config: adapters, in peft's terms.
    """
    from peft import get_peft_model

    get_peft_model(model, config, autocast_adapter_dtype=False)
    return model


def load_adapter(model: MM1ForConditionalGeneration, folder: Path, *, merge: bool = False) -> MM1ForConditionalGeneration:
    """Load an adapter onto its base model.

    Args:
        model: the base model, changed in place.
        folder: folder in peft's format.
        merge: add it to the weights of the base model, instead of computing both in each layer.

    Raises:
        ConfigurationError: the folder has no adapter in safetensors.
        CheckpointError: the adapter does not fit the model.
    """
    adapted = _from_folder(model, folder)
    if not merge:
        return model
    merged: MM1ForConditionalGeneration = adapted.merge_and_unload(safe_merge=True)
    return merged.requires_grad_(True)


def _from_folder(model: MM1ForConditionalGeneration, folder: Path) -> PeftModel:
    from peft import PeftModel

    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ConfigurationError(f"{folder} is no adapter: expected {CONFIG} and {WEIGHTS} of peft; pickles are not opened")
    try:
        adapted = PeftModel.from_pretrained(
            model,
            str(folder),
            is_trainable=True,
            autocast_adapter_dtype=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise CheckpointError(f"{folder}: the adapter does not fit its base model: {reason}") from None
    missing = sorted(set(tensor_names(model)) - _names_in(folder / WEIGHTS))
    if missing:
        raise CheckpointError(f"{folder}: {len(missing)} tensors of the adapter are missing, for example {missing[0]}")
    return adapted


def _names_in(path: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def tensor_names(model: MM1ForConditionalGeneration) -> list[str]:
    """Return the names of an adapter's tensors as in peft's files."""
    return list(_peft_tensors(model, dict(model.named_parameters())))


def _peft_tensors(model: MM1ForConditionalGeneration, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(model, state_dict=weights, save_embedding_layers=False)
    return {f"{PREFIX}{name}": tensor.detach() for name, tensor in tensors.items()}


def put_adapted(
    store: Store,
    model: MM1ForConditionalGeneration,
    folder: Path,
    base: Files,
    weights: dict[str, torch.Tensor],
) -> Files:
    """Store the adapter of a model next to the files of its base.

    Args:
        store: target store, which has the files of the base.
        model: the adapted model.
        folder: folder for temporary files.
        base: files of the base model; an adapter among them is replaced.
        weights: the tensors of :func:`adapter_names` by name, on the CPU.

    Returns:
        Files of the base and of the adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ref = write_safetensors(folder / WEIGHTS, _peft_tensors(model, weights), {"format": "pt"})
    return {
        **base_files(base),
        f"{FOLDER}/{CONFIG}": store.put_bytes(config_json(model).encode()),
        f"{FOLDER}/{WEIGHTS}": store.take_blob(folder / WEIGHTS, ref),
    }


def base_files(files: Files) -> Files:
    """Return the files of the base model alone."""
    return {name: ref for name, ref in files.items() if not name.startswith(f"{FOLDER}/")}


def config_json(model: Any, base: str = "") -> str:
    """Return the ``adapter_config.json`` of a model, the same for the same adapters.

    Args:
        model: the adapted model.
        base: name of its base model, for peft; empty = not stated.
    """
    fields = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base or None, "inference_mode": True}
    return canonical_json({name: sorted(value) if isinstance(value, set) else value for name, value in fields.items()}) + "\n"


def base_of(folder: Path) -> str:
    """Return the name of the base model of an adapter's folder.

    Raises:
        ConfigurationError: the folder does not state it.
    """
    try:
        base = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"{folder / CONFIG} is not a JSON object: {error}") from None
    if not base:
        raise ConfigurationError(
            f"{folder}: base_model_name_or_path in {CONFIG} is empty: set it to the folder, or the address of the manifest, of "
            "the model that the adapter was trained on"
        )
    return str(base)
