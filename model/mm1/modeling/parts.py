"""Models from real parts: a pretrained vision tower, a pretrained decoder, a fresh connector between them.

    vision folder, decoder folder, fields of MM1Config -> build_from_parts -> MM1ForConditionalGeneration

Called through `MM1ForConditionalGeneration.from_parts`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from .configuration import MM1Config


def build_from_parts(
    model_class: type[PreTrainedModel],
    vision: Path | str | None,
    decoder: Path | str | None,
    config: MM1Config | None = None,
    dtype: torch.dtype = torch.float32,
    **config_fields: Any,
) -> Any:
    """Build a model of `model_class`; see `MM1ForConditionalGeneration.from_parts`.

    Raises:
        ValueError: a part has neither a folder nor a configuration, or its folder lacks weights.
    """
    fields = {**(_fields(config) if config is not None else {}), **config_fields}
    if vision is not None:
        fields["vision_config"] = _vision_config(vision)
    if decoder is not None:
        fields["text_config"] = AutoConfig.from_pretrained(decoder)
        fields["tie_word_embeddings"] = bool(getattr(fields["text_config"], "tie_word_embeddings", False))
    for part in ("vision_config", "text_config"):
        if fields.get(part) is None:
            raise ValueError(f"Give a folder for the part {part.removesuffix('_config')!r}, or {part} in the configuration")
    model = model_class(MM1Config(**fields)).to(dtype)
    if vision is not None:
        tower = AutoModel.from_pretrained(vision, config=fields["vision_config"], dtype=dtype)
        _load(model.model.vision_tower, tower, f"vision tower {vision}")
    if decoder is not None:
        causal_lm = AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype)
        _load(model.model.language_model, causal_lm.get_decoder(), f"decoder {decoder}")
        _load(model.lm_head, causal_lm.get_output_embeddings(), f"output layer of {decoder}")
        causal_lm.generation_config.suppress_tokens = model.generation_config.suppress_tokens
        model.generation_config = causal_lm.generation_config
    if model.config.image_token_id >= model.config.text_config.vocab_size:
        model.resize_token_embeddings(model.config.image_token_id + 1)
    return model


def _fields(config: MM1Config) -> dict[str, Any]:
    fields = config.to_dict()
    for name in ("model_type", "transformers_version", "architectures", "auto_map", "dtype"):
        fields.pop(name, None)
    return fields


def _vision_config(folder: Path | str) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(folder)
    return getattr(config, "vision_config", config)


def _load(module: nn.Module, source: nn.Module, name: str) -> None:
    # The pooling parts of a tower are not kept (modeling.py), so a source may have more than the module, never less.
    missing, _ = module.load_state_dict(source.state_dict(), strict=False)
    if missing:
        raise ValueError(f"The {name} lacks the weights {', '.join(missing[:5])}")
