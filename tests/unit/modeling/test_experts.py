"""Sorted experts are the plain loop over experts: outputs, gradients, every way of spreading the tokens."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GptOssConfig, Qwen3MoeConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from mm1.modeling.experts import SORTED_EXPERTS
from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import packed_batch, tiny_config, tiny_model

EXPERTS, WIDTH = 5, 16
ROWS = [[11, 9, 12], [20, 5, 3]]


def _experts(implementation, dtype=torch.float32, width=WIDTH):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(hidden_size=WIDTH, moe_intermediate_size=width, num_experts=EXPERTS, num_experts_per_tok=2)
    config._experts_implementation = implementation
    module = Qwen3MoeExperts(config)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return module.to(dtype)


def _routing(spread, tokens):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(tokens, EXPERTS, generator=generator)
    if spread == "one has none":
        scores[:, 3] = -100
    if spread == "one has all":
        scores[:, 2] = 100
    if spread == "two have all":
        scores[:, 1:3] = 100
    return scores.topk(2, dim=-1).indices


def _run(implementation, chosen_TK, dtype=torch.float32, width=WIDTH, autocast=False):
    """Output and all gradients: input, weights of the tokens' choices, weights of the experts."""
    module = _experts(implementation, dtype, width)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(len(chosen_TK), WIDTH, generator=generator).to(dtype).requires_grad_()
    weights = torch.rand(chosen_TK.shape, generator=generator).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = module(hidden, chosen_TK, weights)
    output.backward(torch.randn(output.shape, generator=generator).to(output.dtype))
    return [output, hidden.grad, weights.grad, module.gate_up_proj.grad, module.down_proj.grad]


SPREADS = ["even", "one has none", "one has all", "two have all"]


@pytest.mark.parametrize("width", [WIDTH, 7], ids=["grouped", "by expert"])
@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("spread", SPREADS)
def test_outputs_and_gradients_are_those_of_the_plain_loop(spread, tokens, width):
    chosen = _routing(spread, tokens)
    for got, want in zip(_run(SORTED_EXPERTS, chosen, width=width), _run("eager", chosen, width=width), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.permutations(range(EXPERTS)).map(lambda order: order[:3]), min_size=1, max_size=9))
def test_any_choice_of_experts(chosen):
    chosen_TK = torch.tensor(chosen)
    for got, want in zip(_run(SORTED_EXPERTS, chosen_TK), _run("eager", chosen_TK), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spread", SPREADS)
def test_half_precision_is_near_single_precision(spread):
    chosen = _routing(spread, 12)
    exact = _run("eager", chosen)
    for got, want in zip(_run(SORTED_EXPERTS, chosen, torch.bfloat16), exact, strict=True):
        assert got.dtype == torch.bfloat16
        assert (got.float() - want).norm() <= 0.02 * want.norm()


def test_autocast_computes_in_half_precision_and_keeps_the_types_of_the_weights():
    chosen = _routing("even", 12)
    exact, plain = _run("eager", chosen), _run(SORTED_EXPERTS, chosen)
    for got, want, single in zip(_run(SORTED_EXPERTS, chosen, autocast=True), exact, plain, strict=True):
        assert got.dtype == torch.float32
        assert not torch.equal(got, single)
        assert (got - want).norm() <= 0.02 * want.norm()


def test_gradients_are_exact_derivatives():
    """Float64, which the grouped product refuses, against finite differences."""
    module, chosen = _experts(SORTED_EXPERTS, torch.float64, width=3), _routing("one has none", 4)
    hidden = torch.randn(4, WIDTH, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: module(inputs[0], chosen, inputs[1]), (hidden, weights))


def test_experts_of_another_make_are_left_to_transformers():
    """Biases, transposed weights and a gate of their own."""
    config = GptOssConfig(hidden_size=WIDTH, intermediate_size=24, num_local_experts=EXPERTS, num_experts_per_tok=2)
    module, chosen, outputs = GptOssExperts(config), _routing("even", 12), []
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    hidden = torch.randn(12, WIDTH)
    for implementation in (SORTED_EXPERTS, "eager"):
        config._experts_implementation = implementation
        outputs.append(module(hidden, chosen, torch.full((12, 2), 0.5)))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_the_same_bits_at_every_run():
    chosen = _routing("even", 200)
    first, second = _run(SORTED_EXPERTS, chosen), _run(SORTED_EXPERTS, chosen)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_token_is_not_changed_by_the_others():
    chosen, module = _routing("even", 40), _experts(SORTED_EXPERTS)
    hidden, weights = torch.randn(40, WIDTH), torch.rand(40, 2)
    alone = module(hidden[7:8], chosen[7:8], weights[7:8])
    torch.testing.assert_close(module(hidden, chosen, weights)[7:8], alone, atol=1e-5, rtol=1e-5)


def test_the_model_takes_them_unless_told_otherwise(tmp_path):
    model = tiny_model(moe=True)
    assert model.get_experts_implementation()["text_config"] == SORTED_EXPERTS
    model.save_pretrained(tmp_path)
    loaded = MM1ForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.get_experts_implementation()["text_config"] == SORTED_EXPERTS
    eager = MM1ForConditionalGeneration.from_pretrained(tmp_path, experts_implementation="eager")
    assert eager.get_experts_implementation()["text_config"] == "eager"
    config = tiny_config(moe=True)
    config.text_config._experts_implementation = "grouped_mm"
    assert MM1ForConditionalGeneration(config).get_experts_implementation()["text_config"] == "grouped_mm"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_has_the_gradients_of_the_plain_loop(checkpointing):
    model, batch = tiny_model(moe=True).train(), packed_batch(ROWS)
    plain = copy.deepcopy(model)
    plain.set_experts_implementation("eager")
    if checkpointing:
        model.gradient_checkpointing_enable()
    for each in (model, plain):
        each(**batch).loss.backward()
    for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, atol=1e-5, rtol=1e-5, msg=name)


def test_generation_is_that_of_the_plain_loop():
    model, ids = tiny_model(moe=True), torch.tensor([[9, 17, 33, 20]])
    expected = model.generate(ids, max_new_tokens=10, do_sample=False, pad_token_id=0)
    model.set_experts_implementation("eager")
    assert torch.equal(model.generate(ids, max_new_tokens=10, do_sample=False, pad_token_id=0), expected)
