"""Names of the weights: those of an exported folder, and those of the module that vLLM runs.

    exported                      vLLM
    model.vision_tower.*          vision_tower.*                          modules of this project
    model.connector.*             connector.*
    model.language_model.*        language_model.<base>.*                 vLLM's own decoder; <base> is model, transformer, …
    lm_head.*                     language_model.lm_head.*

Needs no vLLM.
"""

from __future__ import annotations

from typing import Any

ARCHITECTURE = "MM1ForConditionalGeneration"
"""`architectures` in the exported config.json, by which vLLM chooses the class."""


def causal_class(text_config: Any) -> Any:
    """Return the class of transformers for a decoder with its output layer; vLLM has one of the same name.

    Args:
        text_config: configuration of the decoder.

    Raises:
        ValueError: transformers has none for this decoder.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(text_config)]
    except KeyError:
        raise ValueError(f"transformers has no causal language model for the decoder {text_config.model_type!r}") from None


def prefixes(text_config: Any) -> dict[str, str]:
    """Return the prefix of exported names -> prefix in vLLM's module.

    Args:
        text_config: configuration of the decoder.
    """
    return {
        "model.vision_tower.": "vision_tower.",
        "model.connector.": "connector.",
        "model.language_model.": f"language_model.{causal_class(text_config).base_model_prefix}.",
        "lm_head.": "language_model.lm_head.",
    }


def skipped_prefixes(config: Any) -> list[str]:
    """Return the prefixes of weights that are not loaded: a tied output layer is the embedding.

    Args:
        config: an `MM1Config`.
    """
    return ["language_model.lm_head."] if config.tie_word_embeddings else []


def vllm_name(name: str, mapping: dict[str, str]) -> str:
    """Return the name of an exported weight in vLLM's module.

    Raises:
        ValueError: the name is not that of an exported weight.
    """
    for old, new in mapping.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise ValueError(f"{name} is not a weight of an exported MM1")
