"""Loading and validation of the folder of an exported model.

    folder -> config.json is that of an MM1 -> safetensors whole -> every tensor has its place -> processor fits the model

A model whose tensors are missing would answer with random weights, so nothing is filled in. The code in the folder is not run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from mm1.checkpoint import adapters
from mm1.errors import CheckpointError, ConfigurationError, HardwareError, NetworkError, OutOfMemory, typed
from mm1.lineage.text import count, listed
from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.modeling.stopping import num_token_ids

CONFIG, GENERATION = "config.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROCESSOR_FILES = ("processor_config.json", "tokenizer.json", "tokenizer_config.json")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
MAX_NAMES = 3
"""Names in a message; the rest is counted."""
_REMEDY = "copy the folder again, or write it with mm1 export"

log = logging.getLogger("mm1")


def load_folder(
    folder: Path, dtype: torch.dtype | Literal["auto"] = torch.float32, *, merge: bool = False
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Load an exported MM1 model, or the files of a checkpoint, which may have an adapter.

    Args:
        folder: the folder.
        dtype: dtype of the weights; auto is that of the files.
        merge: add an adapter to the weights, instead of computing it in each layer.

    Returns:
        The model in evaluation mode, and its processor.

    Raises:
        ConfigurationError: the folder is not that of an MM1 model, or files of it are missing.
        CheckpointError: a file is damaged, or configuration, tensors and processor do not fit each other.
    """
    _check_kind(folder)
    files = _weight_files(folder)
    _check_files(files)
    _check_processor_files(folder)
    model = _load_model(folder, dtype)
    if (folder / adapters.FOLDER).is_dir():
        model = adapters.load_adapter(model, folder / adapters.FOLDER, merge=merge)
    return model.eval(), load_processor(folder, model)


def load_processor(folder: Path, model: MM1ForConditionalGeneration) -> MM1Processor:
    """Load the processor in the folder of a model, or of an adapter.

    Raises:
        ConfigurationError: files of it are missing.
        CheckpointError: a file is damaged, or it does not fit the model.
    """
    _check_processor_files(folder)
    try:
        processor: MM1Processor = MM1Processor.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{folder}: its processor cannot be loaded: {_one_line(error)}; {_REMEDY}") from error
    _check_fit(model, processor, folder)
    return processor


def _check_kind(folder: Path) -> None:
    """Refuse the config.json of another type of model."""
    fields = _read_json(folder / CONFIG, folder)
    if (folder / GENERATION).is_file():  # transformers would go on without the ends of an answer that only this file has
        _read_json(folder / GENERATION, folder)
    kind, name = fields.get("model_type"), MM1ForConditionalGeneration.__name__
    if kind != MM1Config.model_type:
        raise ConfigurationError(
            f"{folder} is not an exported MM1 model: model_type in {CONFIG} is {kind!r}, expected {MM1Config.model_type!r}; "
            "give the folder of an MM1 model"
        )
    architectures = fields.get("architectures") or [name]
    if name not in architectures:
        raise ConfigurationError(
            f"{folder} is not an exported MM1 model: architectures in {CONFIG} is {architectures}, expected {name!r}; {_REMEDY}"
        )


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{folder} is not an exported MM1 model: it has no {path.name}; {_REMEDY}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; {_REMEDY}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object; {_REMEDY}")
    return content


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of the weights; pickles are not opened."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX, folder).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX} has no weight_map of tensors and files; {_REMEDY}")
        files = [folder / name for name in sorted(set(shards.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise ConfigurationError(f"{folder}: missing {count(len(missing), 'weight file')} ({listed(missing)}); {_REMEDY}")
        return files
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    hint = f", only {', '.join(pickles[:MAX_NAMES])}: pickles can run code and are not opened" if pickles else ""
    raise ConfigurationError(f"{folder} is not an exported MM1 model: it has no {WEIGHTS}{hint}; {_REMEDY}")


def _check_files(files: list[Path]) -> None:
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is not a complete safetensors file ({error}); {_REMEDY}") from None


def _check_processor_files(folder: Path) -> None:
    if missing := [name for name in PROCESSOR_FILES if not (folder / name).is_file()]:
        raise ConfigurationError(f"{folder}: missing {', '.join(missing)} of the tokenizer and processor; {_REMEDY}")


def _load_model(folder: Path, dtype: torch.dtype | Literal["auto"]) -> MM1ForConditionalGeneration:
    try:
        with quiet_transformers():
            model, info = MM1ForConditionalGeneration.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # so that all of them are listed
                output_loading_info=True,
            )
    except Exception as error:
        if isinstance(cause := typed(error), OutOfMemory | HardwareError | NetworkError):
            raise cause from None
        raise CheckpointError(f"{folder} cannot be loaded: {_one_line(error)}; {_REMEDY}") from error
    labels = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "of another shape"}
    names = {word: _names(info[key]) for key, word in labels.items() if info.get(key)}
    problems = [f"{len(tensors)} {word} ({listed(tensors)})" for word, tensors in names.items()]
    if problems:
        raise CheckpointError(f"{folder}: tensors do not match {CONFIG}: {', '.join(problems)}; {_REMEDY}")
    return model


def _names(keys: Collection[Any]) -> list[str]:
    """Return the names of tensors; a mismatched one comes with both shapes."""
    return sorted(
        key if isinstance(key, str) else f"{key[0]} {list(key[1])} instead of {list(key[2])}" if len(key) > 2 else str(key[0])
        for key in keys
    )


def _check_fit(model: MM1ForConditionalGeneration, processor: MM1Processor, folder: Path) -> None:
    """Check that configuration and processor agree about images and ids."""
    config = model.config
    pairs = {
        "image_tokens": (config.image_tokens, processor.image_tokens),
        "image_token_id": (config.image_token_id, processor.image_token_id),
    }
    for name, (configured, processed) in pairs.items():
        if configured != processed:
            raise CheckpointError(f"{folder}: {name} is {configured} in {CONFIG}, but {processed} in its processor; {_REMEDY}")
    rows, ids = config.text_config.vocab_size, num_token_ids(processor.tokenizer)
    if ids > rows:
        raise CheckpointError(f"{folder}: its tokenizer has ids up to {ids - 1}, its embedding only {rows} rows; {_REMEDY}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the reports of transformers, whose content the caller turns into an error."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
