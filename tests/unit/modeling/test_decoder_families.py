"""Decoders of other families than Qwen3: trained, with packed documents apart, or refused in a sentence."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mm1.modeling.decoders import TESTED_FAMILIES
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.optim import num_decoder_parameters
from tests.support.tiny_model import tiny_config

SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
USUAL = SPECIAL | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
HEAD: dict[str, Any] = {"head_dim": 16}
WINDOW: dict[str, Any] = {"sliding_window": 5}
"""Shorter than the documents."""
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}
GPT = SPECIAL | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
OWN: dict[str, dict[str, Any]] = {
    "codegen": GPT | {"n_head": 4, "rotary_dim": 8},
    "ctrl": GPT | {"dff": 64},
    "deepseek_v3": USUAL
    | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
    | {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    | {"num_key_value_heads": 2, "first_k_dense_replace": 1},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": SPECIAL
    | {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 128, "window_size": 5}
    | {"attention_types": [[["global", "local"], 1]]},
    "gptj": GPT | {"rotary_dim": 8},
    "mpt": SPECIAL | {"d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": 128},
    "opt": USUAL | {"ffn_dim": 64, "word_embed_proj_dim": 32},
}
"""Whole configurations of families with other names for their fields."""
EXTRA: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ernie4_5", "gemma", "glm", "glm4", "helium", "hunyuan_v1_dense", "qwen3", "seed_oss"), HEAD),
    **dict.fromkeys(("exaone4", "mistral", "phi3", "starcoder2"), WINDOW),
    "gemma3_text": HEAD | WINDOW | {"sliding_window_pattern": 2},
    "falcon": {"num_kv_heads": 1},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo3": WINDOW | {"num_hidden_layers": 4},
    "olmoe": EXPERTS,
    "qwen2_moe": EXPERTS | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "qwen3_moe": EXPERTS | HEAD | {"moe_intermediate_size": 32},
}
"""Fields besides the usual ones."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "cohere": (USUAL, "not one linear layer"),
    "gemma2": (USUAL | HEAD, "softcap"),
    "gpt_oss": (USUAL | HEAD | {"num_local_experts": 4, "num_experts_per_tok": 2}, "not one linear layer"),
    "granite": (USUAL | {"logits_scaling": 8.0}, "not one linear layer"),
    "lfm2": (USUAL | {"layer_types": ["conv", "full_attention"]}, "layers of type conv carry state"),
    "mamba": (USUAL | {"state_size": 4}, "carry state"),
    "nemotron": (USUAL, "do not stay apart"),
    "bert": (USUAL, "not supported"),
}
LENGTHS = [9, 12, 7]


def decoder_folder(family: str, fields: dict[str, Any], folder: Path) -> Path:
    """A decoder with random weights, large enough that its answers depend on its input."""
    torch.manual_seed(0)
    decoder = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))
    for parameter in decoder.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
    decoder.save_pretrained(folder)
    return folder


def packed(vocabulary: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, vocabulary, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))
    return {
        "input_ids": ids,
        "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None],
        "document_ids": torch.repeat_interleave(torch.arange(1, 1 + len(LENGTHS)), torch.tensor(LENGTHS))[None],
        "labels": ids,
    }


@pytest.mark.parametrize("family", TESTED_FAMILIES)
def test_a_family_is_trained_with_its_documents_apart(tmp_path, family):
    folder = decoder_folder(family, OWN.get(family) or USUAL | EXTRA.get(family, {}), tmp_path / family)
    model = MM1ForConditionalGeneration.from_parts(None, folder, config=tiny_config(), image_token_id=64).eval()
    assert model.get_input_embeddings().num_embeddings == model.lm_head.out_features == 128  # a token more, rounded up
    batch = packed(64)
    together = model(**batch, return_logits=True)
    summed = count = 0.0
    for part in zip(*(batch[name].split(LENGTHS, dim=1) for name in ("input_ids", "labels")), strict=True):
        alone = model(input_ids=part[0], labels=part[1])
        summed, count = summed + alone.sequence_loss.sum(), count + alone.sequence_tokens.sum()
    torch.testing.assert_close(together.token_loss, summed / count)

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(4):
        losses.append(model(**batch).loss)
        losses[-1].backward()
        missing = [name for name, weight in model.model.language_model.named_parameters() if weight.grad is None]
        assert not missing
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]

    model.eval().save_pretrained(tmp_path / "saved")
    again = MM1ForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize("family", REFUSED)
def test_another_family_is_refused_with_those_that_work(tmp_path, family):
    fields, reason = REFUSED[family]
    folder = decoder_folder(family, fields, tmp_path / family)
    with pytest.raises(ValueError, match=rf"of type {family}, which is not supported.*: use one of .*llama") as refusal:
        MM1ForConditionalGeneration.from_parts(None, folder, config=tiny_config(), image_token_id=63)
    assert reason in str(refusal.value)


def test_the_page_on_checkpoints_lists_the_families():
    page = (Path(__file__).parents[3] / "docs/how-to/checkpoints.md").read_text()
    (row,) = re.findall(r"^\| trained in the tests \| (.*) \|$", page, flags=re.MULTILINE)
    assert row == ", ".join(f"`{family}`" for family in TESTED_FAMILIES)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "qwen3_moe"])
def test_embeddings_and_routers_do_not_count_for_the_learning_rate(tmp_path, family):
    folder = decoder_folder(family, OWN.get(family) or USUAL | EXTRA.get(family, {}), tmp_path / family)
    few, many = (
        MM1ForConditionalGeneration.from_parts(None, folder, config=tiny_config(), image_token_id=token) for token in (63, 1000)
    )
    tables = {module.weight for module in few.model.language_model.modules() if isinstance(module, torch.nn.Embedding)}
    count = sum(weight.numel() for weight in few.model.language_model.parameters() if weight not in tables)
    assert num_decoder_parameters(few) == num_decoder_parameters(many)
    assert num_decoder_parameters(few) == count if family != "qwen3_moe" else num_decoder_parameters(few) < count
