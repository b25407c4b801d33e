"""Folders of pretrained parts: checks before loading, loading, and their image normalisation.

    folder -> check_folder -> read_pretrained -> module of transformers (weights mapped from the file, not copied)
    folder -> image_mean_std -> mean and standard deviation of each channel

Only safetensors are accepted: a pickle can run code when it is loaded.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import load_state_dict_from_file
from transformers import AutoConfig
from transformers.utils import logging

OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
CONFIG, WEIGHTS = "config.json", "model.safetensors"

# Converts the pickles of a model to one safetensors file; weights_only refuses pickles that would run code.
_CONVERSION = (
    "import sys, pathlib, torch, safetensors.torch as s; d = pathlib.Path(sys.argv[1]); "
    "w = {k: v.clone().contiguous() for f in sorted(d.glob(sys.argv[2])) "
    "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}; "
    "s.save_file(w, d / sys.argv[3], {'format': 'pt'})"
)


def is_open_clip(folder: Path) -> bool:
    """Whether the weights of a folder are in open_clip's layout; some folders have both layouts."""
    has_others = any(folder.glob("model*.safetensors")) and not (folder / OPEN_CLIP_WEIGHTS).is_file()
    return (folder / OPEN_CLIP_CONFIG).is_file() and not has_others


def check_folder(folder: Path, part: str) -> None:
    """Refuse a folder without a model, with pickles only, or with damaged weights.

    Args:
        folder: the folder.
        part: vision or decoder, for the message.

    Raises:
        ValueError: the folder is refused; the message contains the remedy.
    """
    open_clip = part == "vision" and is_open_clip(folder)
    if not open_clip and not (folder / CONFIG).is_file():
        expected = f"{CONFIG} or {OPEN_CLIP_CONFIG}" if part == "vision" else f"{CONFIG} of a model"
        raise ValueError(f"{part}: {folder} has no {expected}: use the folder that a model was downloaded or saved to")
    weights, pickles = (OPEN_CLIP_WEIGHTS, "open_clip_pytorch_model.bin") if open_clip else (WEIGHTS, "pytorch_model*.bin")
    files = [folder / weights] if open_clip else sorted(folder.glob("*.safetensors"))
    if not any(file.is_file() for file in files):
        if any(folder.glob(pickles)):
            command = f"python -c {json.dumps(_CONVERSION)} {shlex.quote(str(folder))} '{pickles}' {weights}"
            raise ValueError(f"{part}: {folder} has its weights in pickles only, which can run code: convert them: {command}")
        raise ValueError(f"{part}: {folder} has no {weights}: download the weights as well")
    for file in files:
        try:
            load_state_dict_from_file(file)
        except (ValueError, OSError) as error:
            raise ValueError(f"{part}: {file} is not a complete safetensors file: download it again") from error


def read_config(folder: Path, part: str) -> Any:
    """Read the configuration of a folder, without remote code and without the network.

    Raises:
        ValueError: transformers does not support the type of the model.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{part}: {folder} is a model with custom code, which is not run: use one that transformers itself supports"
        ) from error


def read_pretrained(
    auto_class: Any, folder: Path | None, part: str, dtype: torch.dtype, **options: Any
) -> tuple[Any, set[str]]:
    """Load a model of transformers, without remote code and without the network.

    Args:
        auto_class: class to load with.
        folder: folder of the model; None with a `state_dict`.
        part: vision or decoder, for the message.
        dtype: dtype of the weights.
        **options: options for `from_pretrained`: the configuration, and a `state_dict` instead of the folder.

    Returns:
        The model, and the names of its weights that the folder lacks.

    Raises:
        ValueError: the shapes of the weights do not match the configuration.
        OSError: a file is missing.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # hides the list of weights that a part does not use; the caller checks for missing ones
    try:
        model, info = auto_class.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **options,
        )
    except RuntimeError as error:
        raise ValueError(f"{part}: {folder} has weights whose shapes do not match its {CONFIG}") from error
    finally:
        logging.set_verbosity(verbosity)
    return model, set(info["missing_keys"])


def image_mean_std(folder: Path | str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Read the mean and standard deviation of each channel that a vision tower was trained with, of values in [0, 1].

    Args:
        folder: of a vision tower, with `preprocessor_config.json` of transformers or `preprocess_cfg` of open_clip.

    Returns:
        Both, three numbers each; None if the folder has neither.

    Raises:
        ValueError: they are not three numbers each.
    """
    folder = Path(folder)
    sources = [
        ("preprocessor_config.json", lambda fields: fields, ("image_mean", "image_std")),
        ("processor_config.json", lambda fields: fields.get("image_processor") or {}, ("image_mean", "image_std")),
        (OPEN_CLIP_CONFIG, lambda fields: fields.get("preprocess_cfg") or {}, ("mean", "std")),
    ]
    for name, section, keys in sources:
        if not (folder / name).is_file():
            continue
        fields = section(json.loads((folder / name).read_text()))
        values = [fields.get(key) for key in keys]
        if None in values:
            continue
        try:
            mean, std = (tuple(float(number) for number in value) for value in values)
        except (TypeError, ValueError):
            mean, std = (), ()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"vision: {keys[0]} and {keys[1]} in {folder / name} must be three numbers each, above 0 for {keys[1]}"
            )
        return mean, std
    return None
