"""One optimizer step: micro-batches in, updated weights and metrics out.

The loss of a step is that of its *global* batch (:mod:`mm1.train.objective`), so it does not depend on how the batch is split.

    micro-batches -> totals (all ranks) -> forward, backward of each -> figures (all ranks)
        -> finite, and no spike? -> weights updated -> StepResult

Figures stay on the device until all micro-batches are done, so that the host runs ahead of the GPU, and are copied once.

Names of dimensions: B sequences, L sparse layers, X experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mm1.data.load.collate import Batch
from mm1.errors import DivergedError
from mm1.train.engine import Engine
from mm1.train.figures import Figures
from mm1.train.objective import StepObjective
from mm1.train.spikes import SpikeBand


@dataclass(frozen=True)
class StepResult:
    """Figures of one step over all processes; reproducible with the same world size."""

    loss: float
    """Mean next-token loss over the predicted tokens, without router losses; in stage vision over pairs or patches."""
    source_losses: dict[str, float]
    """The same for each source in the batch."""
    grad_norm: float
    """Norm of the whole gradient before clipping (with Muon and ZeRO: of Muon's updates and AdamW's gradients)."""
    predicted_tokens: int
    tokens: int
    """Tokens without padding."""
    positions: int
    """Token positions, padding included."""
    images: int
    pairs: int
    """Pairs of tokens of which the later attends to the earlier, in the same document; a token also pairs with itself."""
    router: dict[str, float]
    """Figures of the sparse layers: balance loss, z-loss, load_max (fullest expert, 1 = balanced), entropy (1 = balanced),
    dropped (share of the tokens' choices that reached no expert; no layer has a capacity limit, so it should be 0)."""
    applied: bool = True
    """Whether the weights were updated; False for a spike (:mod:`mm1.train.spikes`)."""
    source_tokens: dict[str, int] = field(default_factory=dict)
    """Tokens without padding of each source."""
    retrieval: float | None = None
    """Share of the images whose caption is the most similar one of the global batch; for model.clip."""


class TrainStep:
    """Runs optimizer steps on an engine.

    Args:
        engine: model and optimizer.
        sources: names of the mixture's sources, indexed by the ``source_ids`` of a batch.
        objective: computes the loss of a micro-batch.
        experts_per_token: experts that each token is routed to; 0 for a dense decoder.
        band: loss and gradient norm of the steps so far; None updates the weights at every step.
    """

    def __init__(
        self,
        engine: Engine,
        sources: Sequence[str],
        objective: StepObjective,
        experts_per_token: int = 0,
        band: SpikeBand | None = None,
    ) -> None:
        self.engine = engine
        self.band = band
        self.sources = list(sources)
        self.objective = objective
        self.experts_per_token = experts_per_token

    def __call__(self, micro_batches: Sequence[Batch], rate_factor: float) -> StepResult:
        """Run one step.

        Args:
            micro_batches: this rank's part of the global batch.
            rate_factor: multiplier of the peak learning rates.

        Raises:
            DivergedError: the loss or the gradient is not finite, or too many steps are spikes. The weights are not updated.
        """
        engine = self.engine
        totals = self.objective.totals(micro_batches)
        figures = self._learn(micro_batches[0], totals)
        for batch in micro_batches[1:]:
            engine.finish_micro_batch()
            figures = figures.plus(self._learn(batch, totals))
        figures = figures._replace(squared_norm=engine.squared_norm())
        # The host waits for the device here, once per step: what is not finite, or a spike, must not reach the weights.
        figures = figures.with_values(engine.all_sum(figures.flat()).cpu())
        result = self._result(figures)
        _check_finite("loss", figures.loss_sum)
        _check_finite("gradient's norm", result.grad_norm)
        if self.band is not None and not self.band.admits(result.loss, result.grad_norm):
            engine.skip_step()
            return replace(result, applied=False)
        engine.step(rate_factor, result.grad_norm)
        return result

    def _learn(self, batch: Batch, totals: Any) -> Figures:
        """Add the gradient of a micro-batch."""
        inputs, source_ids_B = self.objective.inputs(batch)
        output = self.objective(inputs, totals)
        self.engine.backward(output.loss)
        return Figures.of(inputs, source_ids_B, output, len(self.sources), self.experts_per_token)

    def _result(self, figures: Figures) -> StepResult:
        losses, predicted = figures.losses.tolist(), figures.predicted.tolist()
        return StepResult(
            loss=figures.loss_sum / max(sum(predicted), 1.0),
            source_losses={
                name: loss / count for name, loss, count in zip(self.sources, losses, predicted, strict=True) if count
            },
            grad_norm=math.sqrt(figures.squared_norm),
            predicted_tokens=int(sum(predicted)),
            tokens=int(figures.tokens),
            positions=int(figures.positions),
            images=int(figures.images),
            pairs=int(figures.pairs),
            source_tokens={name: int(count) for name, count in zip(self.sources, figures.source_tokens.tolist(), strict=True)},
            router=self._router(figures) if figures.loads.numel() else {},
            retrieval=float(figures.hits) / max(sum(predicted), 1.0) if figures.hits.numel() else None,
        )

    def _router(self, figures: Figures) -> dict[str, float]:
        micro_batches, loads_LX = self.engine.batch_plan.micro_batches, figures.loads
        num_layers, num_experts = loads_LX.shape
        shares_LX = loads_LX / loads_LX.sum(dim=1, keepdim=True).clamp(min=1)
        entropy_L = -(shares_LX * shares_LX.clamp(min=1e-12).log()).sum(dim=1) / math.log(max(num_experts, 2))
        choices = float(figures.tokens) * self.experts_per_token * num_layers
        return {
            "balance_loss": float(figures.balance_loss) / micro_batches,
            "z_loss": float(figures.z_loss) / micro_batches,
            "load_max": float(shares_LX.max()) * num_experts,
            "entropy": float(entropy_L.mean()),
            "dropped": 1 - float(loads_LX.sum()) / max(choices, 1),
        }


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"the {name} is {value}: a smaller optim.lr or optim.clip may help")
