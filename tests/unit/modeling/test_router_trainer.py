"""The model under transformers' own Trainer: the gradient of a step does not depend on gradient accumulation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from tests.support.tiny_model import tiny_model

ROW = torch.randint(4, 64, (24,), generator=torch.Generator().manual_seed(1))
WEIGHTS = {"router_balance_loss_weight": 0.5, "router_z_loss_weight": 0.1}


class Rows(Dataset):
    """Four rows with the same tokens, so that the router losses of each are those of all."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"input_ids": ROW, "labels": ROW}


def step(folder: Path, moe: bool, size: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step with micro-batches of a size."""
    model = tiny_model(moe=moe, **(WEIGHTS if moe else {})).train()
    kept: dict[str, torch.Tensor] = {}
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=4 // size,
        max_steps=1,
        max_grad_norm=0.0,
        report_to=[],
        logging_steps=1,
        use_cpu=True,
        save_strategy="no",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows())
    optimizer = trainer.create_optimizer()

    def keep(*_) -> None:
        kept.update({name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None})

    optimizer.register_step_pre_hook(keep)
    loss = trainer.train().training_loss
    return loss, kept


@pytest.mark.parametrize("moe", [False, True])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path, moe):
    loss, gradients = step(tmp_path / "whole", moe, 4)
    for size in (2, 1):
        other_loss, others = step(tmp_path / str(size), moe, size)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)
