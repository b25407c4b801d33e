"""The objective of a step: each micro-batch's part of the loss of the whole global batch.

    micro-batches of all ranks -> Totals (predicted tokens, tokens) [-> first choices of the routers]
    micro-batch, Totals -> forward -> token loss + router losses, scaled such that the engine's mean over micro-batches and
        processes is the loss of the global batch

The token loss is the mean over the predicted tokens of the global batch. With ``train.balance_over=global_batch`` the router
losses are those of the global batch too, so the gradient does not depend on its layout. The balance loss multiplies shares of
first choices with mean probabilities; both have to be those of the global batch, and the shares are needed before the first
backward pass. With one micro-batch per process they are summed between its forward and its backward pass. With more, a
counting pass without gradients runs over all of them first, at the cost of one more forward pass.

Names of dimensions: L sparse layers, X experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import torch

from mm1.data.load.collate import Batch
from mm1.modeling.losses import IGNORED_LABEL, first_choices, next_token_targets, router_losses
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.engine import Engine
from mm1.train.inputs import ModelInputs


@dataclass(frozen=True)
class Totals:
    """Divisors of a step's losses, and the routers' first choices over the global batch."""

    predicted: float
    """Predicted tokens, divided by the number of micro-batches."""
    tokens: float
    """Tokens without padding, divided by the number of micro-batches."""
    choices: torch.Tensor | None = None
    """choices_LX: number of tokens whose first choice is each expert; None if it is counted with the only micro-batch."""


class HeldOutSums(NamedTuple):
    """Sums over a rank's held-out samples, numbers on the device."""

    loss: torch.Tensor
    number: torch.Tensor
    """Predictions that the sum is over."""
    hits: torch.Tensor | None = None
    """Pairs whose caption is the most similar one; None if the objective compares no pairs."""


class StepObjective(Protocol):
    """The objective of a stage, which a step and the validation use."""

    @property
    def inputs(self) -> Callable[[Batch], tuple[Batch, torch.Tensor]]:
        """Prepares a batch of the loader: inputs on the device, with `document_ids`, and source_ids_B."""

    def totals(self, micro_batches: Sequence[Batch]) -> Any:
        """Compute what the losses of a step's micro-batches need from the global batch; every rank calls this first."""

    def __call__(self, inputs: Batch, totals: Any) -> Any:
        """Run the model on a micro-batch, and return an output that :meth:`mm1.train.figures.Figures.of` reads."""

    def held_out(self, micro_batches: Sequence[Batch]) -> HeldOutSums:
        """Compute the losses of held-out micro-batches in evaluation mode; every rank has equally many."""


class Objective:
    """Computes the next-token loss of micro-batches.

    Args:
        engine: runs the model.
        inputs: prepares a batch for the model.
        balance_over: batch of the router losses, the global batch or each micro-batch.
    """

    def __init__(self, engine: Engine, inputs: ModelInputs, balance_over: str) -> None:
        self.engine = engine
        self.inputs = inputs
        self._model = cast(MM1ForConditionalGeneration, engine.model)
        self._is_global = balance_over == "global_batch" and self._model.config.is_moe

    def totals(self, micro_batches: Sequence[Batch]) -> Totals:
        """Count over the global batch; every rank calls this before the first micro-batch of a step.

        Args:
            micro_batches: this rank's part of the global batch.
        """
        # Predicted tokens are counted on the host, where batches come from.
        predicted = [
            (next_token_targets(batch["labels"], batch["document_ids"]) != IGNORED_LABEL).sum() for batch in micro_batches
        ]
        tokens = [(batch["document_ids"] != 0).sum() for batch in micro_batches]
        sums = self.engine.reduce([float(sum(predicted)), float(sum(tokens))])
        number = self.engine.batch_plan.micro_batches
        choices_LX = self._count(micro_batches) if self._is_global and len(micro_batches) > 1 else None
        return Totals(max(sums[0], 1.0) / number, max(sums[1], 1.0) / number, choices_LX)

    def __call__(self, inputs: Batch, totals: Totals) -> Any:
        """Run the model on a micro-batch.

        Returns:
            Its output; ``loss`` is the micro-batch's part of the objective.
        """
        output = self.engine(**inputs, use_cache=False, num_items_in_batch=totals.predicted)
        if self._is_global and output.router_logits:
            kept_BS = inputs["document_ids"] != 0
            choices_LX = totals.choices
            if choices_LX is None:
                choices_LX = self.engine.all_sum(first_choices(output.router_logits, kept_BS).double())
            shares_LX = (choices_LX / choices_LX.sum(dim=1, keepdim=True).clamp(min=1)).float()
            output.balance_loss, output.z_loss = router_losses(output.router_logits, kept_BS, shares_LX, totals.tokens)
            weighted = self._model.weighted_router_losses(output.balance_loss, output.z_loss)
            output.loss = output.token_loss + weighted
        return output

    def held_out(self, micro_batches: Sequence[Batch]) -> HeldOutSums:
        """Sum the next-token losses of held-out micro-batches."""
        sums_2 = torch.zeros(2, dtype=torch.float64, device=self.engine.device)
        for batch in micro_batches:
            inputs, _ = self.inputs(batch)
            output = self.engine(**inputs, use_cache=False)
            sums_2[0] += output.sequence_loss.double().sum()
            sums_2[1] += output.sequence_tokens.double().sum()
        return HeldOutSums(sums_2[0], sums_2[1])

    @torch.no_grad()
    def _count(self, micro_batches: Sequence[Batch]) -> torch.Tensor:
        """Count the routers' first choices in a forward pass over all micro-batches, with the dropout masks of the next one."""
        devices = [self.engine.device] if self.engine.device.type == "cuda" else []
        choices: list[torch.Tensor] = []
        with torch.random.fork_rng(devices):
            for batch in micro_batches:
                inputs, _ = self.inputs(batch)
                inputs["labels"] = torch.full_like(inputs["labels"], IGNORED_LABEL)  # no output layer
                output = self.engine(**inputs, use_cache=False)
                choices.append(first_choices(output.router_logits, inputs["document_ids"] != 0))
        return self.engine.all_sum(torch.stack(choices).sum(dim=0).double())
