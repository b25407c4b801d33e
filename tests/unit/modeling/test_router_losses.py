"""Balance loss and z-loss: their numbers, and that they are in the loss."""

import math

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from mm1.modeling.losses import router_losses
from tests.support.tiny_model import packed_batch, tiny_model

ROWS = [[11, 9, 12], [20, 5, 3]]


def test_balanced_routing_has_balance_loss_one():
    logits = torch.eye(4).repeat(3, 1) * 0.0001  # each expert is the first choice of a quarter
    balance, z_loss = router_losses((logits, logits), None)
    assert balance.item() == pytest.approx(1, abs=1e-4)
    assert z_loss.item() == pytest.approx(math.log(4) ** 2, abs=1e-3)


def test_routing_to_one_expert_costs_the_number_of_experts():
    logits = torch.tensor([[50.0, 0, 0, 0]]).repeat(8, 1)
    balance, z_loss = router_losses((logits,), None)
    assert balance.item() == pytest.approx(4)
    assert z_loss.item() == pytest.approx(2500)


def test_hand_computed_values():
    probabilities = torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    balance, _ = router_losses((probabilities.log(),), None)
    # first choices 2/3 and 1/3, mean probabilities 0.5 and 0.5
    assert balance.item() == pytest.approx(2 * (2 / 3 * 0.5 + 1 / 3 * 0.5))


def test_padding_does_not_count():
    logits = torch.randn(6, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    expected = router_losses((logits[[0, 1, 3, 5]],), None)
    for got, want in zip(router_losses((logits,), mask), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_both_losses_are_in_the_loss_with_the_weights_of_the_paper():
    model, batch = tiny_model(moe=True).train(), packed_batch(ROWS)
    output = model(**batch)
    assert (model.config.router_balance_loss_weight, model.config.router_z_loss_weight) == (0.01, 0.001)
    expected = output.token_loss + 0.01 * output.balance_loss + 0.001 * output.z_loss
    torch.testing.assert_close(output.loss, expected)
    real_tokens = (batch["document_ids"] != 0).flatten()
    chosen = [logits[real_tokens] for logits in output.router_logits]
    torch.testing.assert_close(output.balance_loss, router_losses(tuple(chosen), None)[0])


def test_the_losses_push_the_router():
    model, batch = tiny_model(moe=True).train(), packed_batch(ROWS)
    gate = model.model.language_model.layers[1].mlp.gate.weight
    output = model(**batch)
    (output.balance_loss + output.z_loss).backward()
    assert gate.grad.abs().sum() > 0
    assert model.lm_head.weight.grad is None


def test_every_second_layer_has_experts():
    layers = tiny_model(moe=True).model.language_model.layers
    assert [isinstance(layer.mlp, Qwen3MoeSparseMoeBlock) for layer in layers] == [False, True]


def test_router_scores_are_returned_when_asked_for():
    model, batch = tiny_model(moe=True), packed_batch(ROWS)
    del batch["labels"]
    assert model(**batch).router_logits is None
    (scores,) = model(**batch, output_router_logits=True).router_logits
    assert scores.shape == (2 * 32, 4)
