"""Sparse upcycling: converting a dense decoder to a mixture of experts that computes the same function.

Every k-th feed-forward layer is copied into each expert; routers start fresh. The weights of the chosen experts sum to one,
so before the first step the output is that of the dense model for any routing (Komatsuzaki et al., arXiv 2212.05055; for MM1
the sources disagree on whether its experts were initialised this way). All other weights are shared with the dense model, not
copied; only routers are initialised.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen3MoeConfig
from transformers.initialization import no_init_weights

from mm1.errors import ConfigurationError
from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import DecoderConfig

OWN_NAMES = {"architectures", "auto_map", "dtype", "model_type", "text_config", "transformers_version", "vision_config"}
ROUTER = ".mlp.gate"


def upcycle(model: MM1ForConditionalGeneration, decoder: DecoderConfig) -> MM1ForConditionalGeneration:
    """Make the dense decoder of a model sparse; a model that already has these experts is returned unchanged.

    Args:
        model: a model with a Qwen3 or Qwen3-MoE decoder.
        decoder: number of experts and their layers; the other sizes come from the model.

    Raises:
        ConfigurationError: the model's decoder cannot be converted to this one.
    """
    text = model.config.text_config
    if text.model_type == "qwen3_moe":
        if text.num_experts != decoder.num_experts:
            raise ConfigurationError(
                f"model.decoder.num_experts={decoder.num_experts}, but the decoder of init has {text.num_experts} experts"
            )
        return model
    if text.model_type != "qwen3":
        raise ConfigurationError(
            f"model.decoder.num_experts: only a decoder of type qwen3 can be upcycled, got {text.model_type}"
        )
    if decoder.expert_ffn_size not in (0, text.intermediate_size):
        raise ConfigurationError(
            f"model.decoder.expert_ffn_size={decoder.expert_ffn_size}: experts are copies of the dense layer of init, "
            f"which is {text.intermediate_size} wide"
        )
    sparse = _empty_sparse(model, decoder)
    dense_state, names = model.state_dict(), sparse.state_dict().keys()
    sparse.load_state_dict({name: dense_state[name] for name in names & dense_state.keys()}, strict=False, assign=True)
    for name, tensor in sparse.state_dict().items():
        if ".mlp.experts." in name:
            prefix, _, kind = name.partition(".experts.")
            parts = ("gate_proj", "up_proj") if kind == "gate_up_proj" else ("down_proj",)
            tensor.copy_(torch.cat([dense_state[f"{prefix}.{part}.weight"] for part in parts]))
    for name, module in sparse.named_modules():
        module._is_hf_initialized = not name.endswith(ROUTER)
    sparse.init_weights()
    return sparse.train()


def _empty_sparse(model: MM1ForConditionalGeneration, decoder: DecoderConfig) -> MM1ForConditionalGeneration:
    dense: dict[str, Any] = model.config.text_config.to_dict()
    for name in OWN_NAMES:
        dense.pop(name, None)
    text = Qwen3MoeConfig(
        **dense,
        num_experts=decoder.num_experts,
        num_experts_per_tok=decoder.experts_per_token,
        moe_intermediate_size=dense["intermediate_size"],
        decoder_sparse_step=decoder.sparse_every,
        norm_topk_prob=True,
        dtype=model.dtype,
    )
    fields = {name: value for name, value in model.config.to_dict().items() if name not in OWN_NAMES}
    fields |= {
        "router_balance_loss_weight": decoder.balance_loss_weight,
        "router_z_loss_weight": decoder.z_loss_weight,
    }
    config = MM1Config(vision_config=model.config.vision_config, text_config=text, **fields)
    with no_init_weights():
        sparse = MM1ForConditionalGeneration(config)
    sparse.generation_config = model.generation_config
    return sparse
