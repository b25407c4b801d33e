"""Export of a whole model to a folder that plain transformers can load.

    model, processor -> export -> folder (weights, configurations, tokenizer, code) -> AutoModelForImageTextToText

The folder contains the code of this package, so that it loads with `trust_remote_code=True` without this project.
Its bytes depend only on the model and the processor.
"""

import json
from pathlib import Path

import torch

from .modeling import MM1ForConditionalGeneration, MM1Model
from .processing import MM1Processor
from .stopping import generation_settings

MAX_SHARD_SIZE = "5GB"


def export(
    model: MM1ForConditionalGeneration,
    processor: MM1Processor,
    folder: Path | str,
    weights: dict[str, torch.Tensor] | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> Path:
    """Write a folder that plain transformers can load with `trust_remote_code=True`.

    Args:
        model: the model; its generation settings are replaced by those of the folder (stopping.py).
        processor: its processor.
        folder: target folder; created if it is missing.
        weights: state dict to write in place of the model's own; an empty one writes no weights.
        max_shard_size: maximum size of a file of weights, in bytes or such as "5GB".

    Returns:
        The folder.
    """
    folder = Path(folder)
    model.generation_config = generation_settings(model, processor.tokenizer)
    model.config.auto_map = _other_classes()  # saving adds the configuration and AutoModelForImageTextToText
    model.save_pretrained(folder, state_dict=weights, max_shard_size=max_shard_size)
    processor.save_pretrained(folder)
    _keep_tokenizer(folder)
    return folder


def _other_classes() -> dict[str, str]:
    """Return the classes of the Auto classes that users of text, or of hidden states, load the folder with."""
    module = MM1Model.__module__.rsplit(".", 1)[-1]
    return {
        "AutoModel": f"{module}.{MM1Model.__name__}",
        "AutoModelForCausalLM": f"{module}.{MM1ForConditionalGeneration.__name__}",
    }


def _keep_tokenizer(folder: Path) -> None:
    """Have transformers read tokenizer.json as it is: the classes of single models build another pre-tokenizer."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
