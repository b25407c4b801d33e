"""The router losses of a step are those of its global batch: losses and gradients against an independent computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mm1.data.load.collate import PixelNorm
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.batch_plan import plan_batch
from mm1.train.config import OptimConfig, TrainConfig
from mm1.train.engine import Engine
from mm1.train.inputs import ModelInputs
from mm1.train.objective import Objective
from tests.support.tiny_model import packed_batch, tiny_model
from tests.support.tiny_runs import one_process

ROWS = [[40], [3], [11, 9, 12], [5, 30], [2, 2, 2], [17], [33, 6], [4]]
"""Documents of each row: rows have 3 to 40 tokens."""
WEIGHTS = {"router_balance_loss_weight": 0.5, "router_z_loss_weight": 0.1}
BATCH = packed_batch(ROWS, images=False) | {"source_ids": torch.zeros(len(ROWS), dtype=torch.long)}


def model() -> MM1ForConditionalGeneration:
    """A model whose routers prefer some experts."""
    made = tiny_model(moe=True, **WEIGHTS).train()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("mlp.gate.weight"):
                weight.normal_(0, 1, generator=torch.Generator().manual_seed(1))
    return made


def expected_loss(made: MM1ForConditionalGeneration) -> torch.Tensor:
    """The definitions on the whole batch, in plain terms and float64: GShard's balance loss and ST-MoE's z-loss."""
    output = made(**{name: tensor for name, tensor in BATCH.items() if name != "source_ids"})
    losses = []
    for logits in output.router_logits:
        probabilities = logits[(BATCH["document_ids"] != 0).flatten()].softmax(dim=-1)
        first = torch.nn.functional.one_hot(probabilities.argmax(dim=-1), probabilities.shape[-1]).double()
        losses.append(0.5 * probabilities.shape[-1] * (first.mean(dim=0) * probabilities.mean(dim=0)).sum())
        losses.append(0.1 * logits[(BATCH["document_ids"] != 0).flatten()].exp().sum(dim=-1).log().square().mean())
    return output.token_loss + torch.stack(losses).sum() / len(output.router_logits)


def gradients(made: MM1ForConditionalGeneration) -> dict[str, torch.Tensor]:
    return {name: weight.grad.double().clone() for name, weight in made.named_parameters() if weight.grad is not None}


def learnt(size: int, over: str, **fields: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of a step with micro-batches of a size."""
    one_process()
    made = model()
    if "dtype" in fields:
        made.to(torch.bfloat16)
    plan = plan_batch(len(ROWS), size, world_size=1)
    train = TrainConfig(steps=1, global_batch=len(ROWS), micro_batch=size, checkpoint_every=1, **fields)
    engine = Engine(made, peak_lr=1e-3, optim=OptimConfig(clip=0.0), train=train, batch_plan=plan)
    objective = Objective(engine, ModelInputs(engine.device, PixelNorm([0.5] * 3, [0.5] * 3), None), over)
    batches = [{name: tensor[start : start + size] for name, tensor in BATCH.items()} for start in range(0, len(ROWS), size)]
    totals, loss = objective.totals(batches), 0.0
    for number, batch in enumerate(batches):
        if number:
            engine.finish_micro_batch()
        output = objective(objective.inputs(batch)[0], totals)
        engine.backward(output.loss)
        loss += output.loss.item() / len(batches)
    return loss, gradients(made)


@pytest.fixture(scope="module")
def whole() -> tuple[float, dict[str, torch.Tensor]]:
    made = model().double()
    loss = expected_loss(made)
    loss.backward()
    return loss.item(), gradients(made)


@pytest.mark.parametrize("size", [8, 4, 2, 1])
def test_micro_batches_add_up_to_the_global_batch(whole, size):
    loss, own = learnt(size, "global_batch")
    assert loss == pytest.approx(whole[0], rel=1e-5)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_option_computes_them_by_micro_batch(whole):
    assert learnt(8, "micro_batch")[0] == pytest.approx(whole[0], rel=1e-5)
    assert learnt(1, "micro_batch")[0] != pytest.approx(whole[0], rel=1e-3)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("size", [8, 4])
def test_it_trains_in_bfloat16_at_each_stage(whole, stage, size):
    loss, _ = learnt(size, "global_batch", zero_stage=stage, dtype="bfloat16")
    assert loss == pytest.approx(whole[0], rel=0.02)


def test_counting_draws_no_random_numbers():
    one_process()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    plan = plan_batch(len(ROWS), 4, world_size=1)
    train = TrainConfig(steps=1, global_batch=len(ROWS), micro_batch=4, checkpoint_every=1)
    made = tiny_model(moe=True, text={"attention_dropout": 0.5}).train()
    engine = Engine(made, peak_lr=1e-3, optim=OptimConfig(), train=train, batch_plan=plan)
    objective = Objective(engine, ModelInputs(engine.device, PixelNorm([0.5] * 3, [0.5] * 3), None), "global_batch")
    torch.manual_seed(3)
    totals = objective.totals([{name: tensor[rows] for name, tensor in BATCH.items()} for rows in (slice(4), slice(4, 8))])
    assert totals.choices is not None
    assert totals.choices.sum() == (BATCH["document_ids"] != 0).sum()
    torch.testing.assert_close(torch.rand(4), expected)
