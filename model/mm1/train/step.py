"""One optimiser step: micro-batches in, updated weights and figures out.

The loss of a step is the mean over the predicted tokens of its *global* batch, so that it does not depend on how the batch
is spread: every micro-batch divides its sum by the global number of predicted tokens, scaled such that the engine's mean over
micro-batches and processes is that mean. The routers' losses of a mixture of experts are means over micro-batches.

    micro-batches -> number of predicted tokens (all ranks) -> forward, backward of each -> figures (all ranks)
        -> finite? -> weights updated -> StepResult

Names of dimensions: B sequences, S tokens of a sequence, D documents of a sequence, M tokens that a router saw, X experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mm1.data.load.collate import Batch, PixelNorm
from mm1.errors import DivergedError
from mm1.modeling.losses import IGNORED_LABEL, next_token_targets
from mm1.train.engine import Engine


@dataclass(frozen=True)
class StepResult:
    """Figures of one step over all processes; the same in every repetition on the same world."""

    loss: float
    """Mean next-token loss over the predicted tokens, without router losses."""
    source_losses: dict[str, float]
    """The same for each source that was in the batch."""
    grad_norm: float
    """Norm of the whole gradient before clipping (with Muon and ZeRO: of its updates)."""
    predicted_tokens: int
    tokens: int
    """Tokens without padding."""
    positions: int
    """Places for tokens, padding included."""
    images: int
    pairs: int
    """Pairs of tokens of a document of which the later one sees the earlier, itself included."""
    router: dict[str, float]
    """Of the sparse layers: balance loss, z-loss, load_max (fullest expert, 1 = balanced), entropy (1 = balanced), dropped
    (share of the tokens' choices that went to no expert; no layer here has a capacity limit, so it should be 0)."""


class TrainStep:
    """Does optimiser steps on an engine.

    Args:
        engine: model and optimiser.
        sources: names of the mixture's sources, which ``source_ids`` of a batch count through.
        norm: normalises images that come as bytes, on the engine's device.
        experts_per_token: experts that each token is sent to, where there are any.
    """

    def __init__(self, engine: Engine, sources: Sequence[str], norm: PixelNorm, experts_per_token: int = 0) -> None:
        self.engine = engine
        self.sources = list(sources)
        self.norm = norm
        self.experts_per_token = experts_per_token

    def __call__(self, micro_batches: Sequence[Batch], rate_factor: float) -> StepResult:
        """Do one step.

        Args:
            micro_batches: this rank's part of the global batch.
            rate_factor: what the peak learning rates are multiplied by.

        Raises:
            DivergedError: the loss or the gradient is not finite; the weights were not updated by such a loss.
        """
        engine = self.engine
        predicted = sum(
            int((next_token_targets(batch["labels"], batch["document_ids"]) != IGNORED_LABEL).sum()) for batch in micro_batches
        )
        (total_predicted,) = engine.reduce([float(predicted)])
        normaliser = max(total_predicted, 1.0) / engine.batch_plan.micro_batches
        pairs = sum(seen_pairs(batch["document_ids"]) for batch in micro_batches)  # before a GPU has them: no waiting for it
        figures = _Figures(len(self.sources), self.experts_per_token, pairs)
        for number, batch in enumerate(micro_batches):
            batch = {name: tensor.to(engine.device, non_blocking=True) for name, tensor in batch.items()}
            source_ids = batch.pop("source_ids")
            if "pixel_values" in batch and batch["pixel_values"].dtype == torch.uint8:
                batch["pixel_values"] = self.norm(batch["pixel_values"])
            output = engine(**batch, use_cache=False, num_items_in_batch=normaliser)
            engine.backward(output.loss)
            figures.add(batch, source_ids, output)
            if number < len(micro_batches) - 1:
                engine.finish_micro_batch()
        figures.take(engine.reduce(figures.values()))
        if not math.isfinite(figures.loss_sum):
            raise DivergedError(f"the loss is {figures.loss_sum}: a smaller optim.lr or optim.clip may help")
        engine.step(rate_factor)
        if not math.isfinite(engine.grad_norm):
            raise DivergedError(f"the gradient's norm is {engine.grad_norm}: a smaller optim.lr or optim.clip may help")
        return figures.result(self.sources, engine.grad_norm, engine.batch_plan.micro_batches)


def seen_pairs(document_ids_BS: torch.Tensor) -> int:
    """Pairs of tokens that attention is for: L (L + 1) / 2 in a document of L tokens; 0 marks padding."""
    num_documents = int(document_ids_BS.max()) + 1
    lengths_BD = torch.zeros(len(document_ids_BS), num_documents, dtype=torch.int64, device=document_ids_BS.device)
    lengths_BD.scatter_add_(1, document_ids_BS.long(), (document_ids_BS != 0).long())
    return int((lengths_BD * (lengths_BD + 1) // 2).sum())


class _Figures:
    """Sums over micro-batches, then over processes."""

    def __init__(self, num_sources: int, experts_per_token: int, pairs: int) -> None:
        self.losses = [0.0] * num_sources
        self.counts = [0.0] * num_sources
        self.totals = [0.0] * 5  # tokens, positions, images, balance loss, z-loss
        self.pairs = pairs
        self.experts_per_token = experts_per_token
        self.loads: list[float] = []
        self.num_layers = 0

    @property
    def loss_sum(self) -> float:
        return sum(self.losses)

    def add(self, batch: Batch, source_ids_B: torch.Tensor, output: Any) -> None:
        zeros = torch.zeros(len(self.losses), dtype=torch.float64, device=source_ids_B.device)
        losses = zeros.index_add(0, source_ids_B, output.sequence_loss.double()).tolist()
        counts = zeros.index_add(0, source_ids_B, output.sequence_tokens.double()).tolist()
        self.losses = [old + new for old, new in zip(self.losses, losses, strict=True)]
        self.counts = [old + new for old, new in zip(self.counts, counts, strict=True)]
        kept_BS = batch["document_ids"] != 0
        images = len(batch["pixel_values"]) if "pixel_values" in batch else 0
        new = [float(kept_BS.sum()), float(kept_BS.numel()), float(images), 0.0, 0.0]
        if output.router_logits:
            new[3:] = [output.balance_loss.item(), output.z_loss.item()]
            self._add_loads(output.router_logits, kept_BS)
        self.totals = [old + more for old, more in zip(self.totals, new, strict=True)]

    def _add_loads(self, router_logits: Sequence[torch.Tensor], kept_BS: torch.Tensor) -> None:
        self.num_layers = len(router_logits)
        kept_M = kept_BS.flatten()
        loads = []
        for logits_MX in router_logits:
            chosen = logits_MX.detach()[kept_M].topk(self.experts_per_token, dim=-1).indices.flatten()
            loads += torch.bincount(chosen, minlength=logits_MX.shape[-1]).tolist()
        self.loads = [old + new for old, new in zip(self.loads or [0.0] * len(loads), loads, strict=True)]

    def values(self) -> list[float]:
        return [*self.losses, *self.counts, *self.totals, float(self.pairs), *self.loads]

    def take(self, values: list[float]) -> None:
        number = len(self.losses)
        self.losses, self.counts = values[:number], values[number : 2 * number]
        self.totals, self.pairs = values[2 * number : 2 * number + 5], int(values[2 * number + 5])
        self.loads = values[2 * number + 6 :]

    def result(self, sources: list[str], grad_norm: float, micro_batches: int) -> StepResult:
        tokens, positions, images, balance, z_loss = self.totals
        router = {}
        if self.loads:
            router = {"balance_loss": balance / micro_batches, "z_loss": z_loss / micro_batches}
            loads = torch.tensor(self.loads, dtype=torch.float64).view(self.num_layers, -1)
            shares = loads / loads.sum(dim=1, keepdim=True).clamp(min=1)
            entropy = -(shares * shares.clamp(min=1e-12).log()).sum(dim=1) / math.log(max(shares.shape[1], 2))
            router |= {"load_max": float(shares.max()) * shares.shape[1], "entropy": float(entropy.mean())}
            router["dropped"] = 1 - float(loads.sum()) / max(tokens * self.experts_per_token * self.num_layers, 1)
        return StepResult(
            loss=self.loss_sum / max(sum(self.counts), 1.0),
            source_losses={
                name: loss / count for name, loss, count in zip(sources, self.losses, self.counts, strict=True) if count
            },
            grad_norm=grad_norm,
            predicted_tokens=int(sum(self.counts)),
            tokens=int(tokens),
            positions=int(positions),
            images=int(images),
            pairs=self.pairs,
            router=router,
        )
