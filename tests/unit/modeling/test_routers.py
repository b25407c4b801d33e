"""Routers compute in float32 in every decoder that records their scores, whatever dtype the model has."""

import copy
import pickle

import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import (
    AutoModel,
    DeepseekV3Config,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from mm1.modeling.routers import compute_in_float32, use_float32_routers
from tests.support.tiny_model import packed_batch, tiny_model

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "num_experts_per_tok": 2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
DEEPSEEK = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 0}
DEEPSEEK |= {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
DECODERS = {
    "qwen3": Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=16),
    "qwen2": Qwen2MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4),
    "olmoe": OlmoeConfig(**SIZES, num_experts=4),
    "granite": GraniteMoeConfig(**SIZES, num_local_experts=4),
    "gpt_oss": GptOssConfig(**SIZES, num_local_experts=4, head_dim=16),
    "deepseek": DeepseekV3Config(**SIZES, **DEEPSEEK),
}
IDS = torch.arange(40).reshape(2, 20)


@pytest.mark.parametrize("name", DECODERS)
def test_scores_are_those_of_float32_arithmetic(name):
    torch.manual_seed(0)
    decoder = AutoModel.from_config(DECODERS[name]).to(torch.bfloat16)
    weights = decoder.state_dict().keys()
    assert use_float32_routers(decoder) == use_float32_routers(decoder) == 2
    assert decoder.state_dict().keys() == weights
    taken: list[tuple[torch.Tensor, torch.Tensor]] = []
    routers = [module for module in decoder.modules() if type(module).__mro__[1].__name__ == "_Float32"]
    for router in routers:
        router.register_forward_hook(lambda router, given, output: taken.append((given[0], output)))
    outputs = decoder(input_ids=IDS)
    assert outputs.last_hidden_state.dtype == torch.bfloat16
    for router, (hidden, output) in zip(routers, taken, strict=True):
        logits = output[0] if isinstance(output, tuple) else output
        bias = getattr(router, "bias", None)
        expected = F.linear(hidden.reshape(-1, 32).float(), router.weight.float(), None if bias is None else bias.float())
        torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["Llama4Text", "JetMoe", "Doge", "MiniMax"])
def test_decoders_with_other_routers_still_run(name):
    config = getattr(transformers, f"{name}Config")
    sizes = SIZES | {"num_local_experts": 4, "num_key_value_heads": 1 if name == "JetMoe" else 2}
    decoder = AutoModel.from_config(config(**sizes, head_dim=16, intermediate_size_mlp=32)).to(torch.bfloat16)
    use_float32_routers(decoder)
    assert decoder(input_ids=IDS).last_hidden_state.dtype == torch.bfloat16


def test_a_router_can_be_copied_and_pickled():
    layer = tiny_model(moe=True).to(torch.bfloat16).model.language_model.layers[1].mlp
    hidden = torch.randn(5, layer.gate.weight.shape[1], dtype=torch.bfloat16)
    for gate in (copy.deepcopy(layer.gate), pickle.loads(pickle.dumps(layer.gate))):
        for own, other in zip(layer.gate(hidden), gate(hidden), strict=True):
            assert torch.equal(own, other)


def test_autocast_does_not_round_the_scores():
    model, batch = tiny_model(moe=True).eval(), packed_batch([[11, 9, 12], [20, 5, 3]])
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
    assert {scores.dtype for scores in output.router_logits} == {torch.float32}
    layer = model.model.language_model.layers[1].mlp
    hidden = torch.randn(7, layer.gate.weight.shape[1], dtype=torch.bfloat16)
    _, weights, _ = layer.gate(hidden)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(7))


def test_a_linear_layer_can_be_a_router():
    gate = torch.nn.Linear(8, 4, bias=False).to(torch.bfloat16)
    compute_in_float32(gate)
    hidden = torch.randn(3, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(gate(hidden), F.linear(hidden.float(), gate.weight.float()))
    gate(hidden).sum().backward()
    assert gate.weight.grad is not None
    assert gate.weight.grad.dtype == torch.bfloat16
