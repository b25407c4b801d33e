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


def _router_only(**weights):
    """A float64 model and a batch without targets: the loss is the weighted losses of the routers, nothing else."""
    off = {"router_balance_loss_weight": 0.0, "router_z_loss_weight": 0.0}
    model, batch = tiny_model(moe=True, **(off | weights)).double().train(), packed_batch(ROWS)
    batch |= {"labels": torch.full_like(batch["labels"], -100), "pixel_values": batch["pixel_values"].double()}
    return model, batch, model.model.language_model.layers[1].mlp.gate.weight


BALANCE, Z = {"router_balance_loss_weight": 1.0}, {"router_z_loss_weight": 1.0}


@pytest.mark.parametrize("weights", [BALANCE, Z, {"router_balance_loss_weight": 0.7, "router_z_loss_weight": 0.3}])
def test_the_gradient_of_the_models_loss_is_that_of_finite_differences(weights):
    model, batch, gate = _router_only(**weights)
    model(**batch).loss.backward()
    for seed in range(4):
        direction = torch.randn(gate.shape, dtype=gate.dtype, generator=torch.Generator().manual_seed(seed))
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                gate.add_(direction, alpha=step)
                losses.append(model(**batch).loss.item())
                gate.sub_(direction, alpha=step)
        slope = (gate.grad * direction).sum().item()
        assert abs(slope) > 1e-3
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)


def _descend(model, batch, gate, steps=20, rate=0.02):
    """Router scores of the real tokens before and after steps against the gradient."""
    real, scores = (batch["document_ids"] != 0).flatten(), []
    for _ in range(steps):
        gate.grad = None
        output = model(**batch)
        scores.append(output.router_logits[0][real].detach())
        output.loss.backward()
        with torch.no_grad():
            gate.sub_(gate.grad, alpha=rate)
    return scores[0], scores[-1]


def test_the_balance_loss_spreads_tokens_over_experts():
    model, batch, gate = _router_only(**BALANCE)
    before, after = _descend(model, batch, gate)
    loads = [torch.bincount(scores.argmax(-1), minlength=4) for scores in (before, after)]
    favourite = loads[0].argmax()
    assert loads[1][favourite] < loads[0][favourite]
    assert after.softmax(-1)[:, favourite].mean() < before.softmax(-1)[:, favourite].mean()
    assert router_losses((after,), None)[0] < router_losses((before,), None)[0]


def test_the_z_loss_makes_large_scores_smaller():
    model, batch, gate = _router_only(**Z)
    with torch.no_grad():
        gate.mul_(10)
    before, after = _descend(model, batch, gate)
    assert after.logsumexp(-1).abs().mean() < before.logsumexp(-1).abs().mean()
    assert after.abs().mean() < before.abs().mean()


def test_what_stands_in_the_padding_changes_neither_loss():
    model, batch = tiny_model(moe=True), packed_batch(ROWS)
    before = model(**batch)
    padded = batch["document_ids"] == 0
    assert padded.sum() == 4
    other = torch.where(padded, 7, batch["input_ids"])
    after = model(**{**batch, "input_ids": other})
    assert not torch.equal(after.router_logits[0], before.router_logits[0])
    torch.testing.assert_close(after.loss, before.loss, atol=1e-6, rtol=0)
    # the same with padding that a mask tells of
    plain = {"input_ids": batch["input_ids"][1:], "labels": batch["labels"][1:], "pixel_values": batch["pixel_values"][-2:]}
    mask = (~padded[1:]).long()
    short = model(**{name: tensor[:, :28] if name != "pixel_values" else tensor for name, tensor in plain.items()})
    torch.testing.assert_close(model(**plain, attention_mask=mask).loss, short.loss, atol=1e-5, rtol=0)


def test_the_losses_leave_the_output_layer_alone():
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
