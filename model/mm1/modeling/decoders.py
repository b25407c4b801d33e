"""Decoders of any family: a check of what a decoder computes as a part of MM1.

    decoder folder -> causal model of transformers, the same weights in MM1 -> check_decoder -> equal logits, or refused

A family can be used if its layers keep packed documents apart (attention.py) and its output is one linear layer. Neither can
be read from a configuration, so the decoder itself is asked: on a few tokens, each packed document must have the logits that
the family's own model gives for the beginning of that document alone.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

TESTED_FAMILIES = (
    *("apertus", "arcee", "biogpt", "bitnet", "codegen", "ctrl", "deepseek_v3", "ernie4_5", "exaone4", "falcon", "gemma"),
    *("gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "helium", "hunyuan_v1_dense"),
    *("llama", "mistral", "mixtral", "mpt", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon", "phi", "phi3", "qwen2"),
    *("qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2"),
)
"""Families (`model_type`) that the tests train. Others work if they pass the check."""

_LENGTHS = (6, 9, 7)
_FIRST_ID = 5  # after the usual special tokens
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}  # of the largest logit; rounding is about 1e-6
_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_HALF_TOLERANCE = 0.05


class UnsupportedDecoderError(ValueError):
    """A decoder that MM1 cannot train, and the families that it can.

    Args:
        folder: of the decoder.
        family: its `model_type`.
        reason: why, as a clause.
    """

    def __init__(self, folder: Path | str, family: str, reason: str) -> None:
        families = ", ".join(TESTED_FAMILIES)
        reason = " ".join(reason.split())
        super().__init__(f"decoder: {folder} is of type {family}, which is not supported ({reason}): use one of {families}")


@torch.no_grad()
def check_decoder(model: Any, source: PreTrainedModel, folder: Path | str) -> None:
    """Refuse a decoder that does not compute in MM1 what its own model computes, or whose packed documents are not isolated.

    Args:
        model: MM1 with the weights of the decoder.
        source: causal language model of the folder.
        folder: of the decoder, for the message.

    Raises:
        UnsupportedDecoderError: the logits differ, or the decoder does not accept its inputs.
    """
    family, total = source.config.model_type, sum(_LENGTHS)
    ids = [number for number in range(_FIRST_ID, _FIRST_ID + total + 1) if number != model.config.image_token_id][:total]
    input_ids = torch.tensor([ids]) % model.config.text_config.vocab_size
    position_ids = torch.cat([torch.arange(length) for length in _LENGTHS])[None]
    document_ids = torch.repeat_interleave(torch.arange(1, len(_LENGTHS) + 1), torch.tensor(_LENGTHS))[None]
    others = set(getattr(model.config.text_config, "layer_types", None) or ()) - _ATTENTION_LAYERS
    if others:
        raise UnsupportedDecoderError(
            folder, family, f"its layers of type {', '.join(sorted(others))} carry state over documents"
        )
    modes = model.training, source.training
    try:
        model.eval(), source.eval()
        beginnings = [part[:, :-1] for part in input_ids.split(_LENGTHS, dim=1)]
        expected = [source(input_ids=part, use_cache=False).logits for part in beginnings]
        alone = [model(input_ids=part, use_cache=False).logits for part in beginnings]
        packed = model(input_ids=input_ids, position_ids=position_ids, document_ids=document_ids).logits
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise UnsupportedDecoderError(folder, family, f"{type(error).__name__}: {error}") from error
    finally:
        model.train(modes[0]), source.train(modes[1])
    if not _agree(alone, expected):
        raise UnsupportedDecoderError(folder, family, "its logits are not one linear layer of plain attention layers")
    if not _agree([part[:, :-1] for part in packed.split(_LENGTHS, dim=1)], expected):
        raise UnsupportedDecoderError(folder, family, "packed documents do not stay apart, or see later tokens")


def _agree(logits: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    scale = max(float(part.abs().max()) for part in expected)
    tolerance = _TOLERANCE.get(expected[0].dtype, _HALF_TOLERANCE) * scale
    return all(bool((left - right).abs().max() <= tolerance) for left, right in zip(logits, expected, strict=True))
