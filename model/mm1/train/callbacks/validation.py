"""The callback that computes the loss of each source on its held-out samples, every n steps and after the last one.

    held-out samples -> the first sequences, packed as in training -> micro-batches of each rank, read before the first step
    every n steps: forward passes in eval mode, without gradients -> sums over the ranks -> mean loss per predicted token

Every rank runs the same number of micro-batches of the same size, so it works at any ZeRO stage and with shared experts. The
sums are over sequences, so the result does not depend on the number of ranks. Nothing is read from a store while other ranks
wait, no process is started, and no random number is drawn: training continues as if nothing had happened.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from mm1.data.load.collate import Batch
from mm1.data.load.validation import open_holdout
from mm1.errors import DivergedError
from mm1.manifests import DataMix
from mm1.store.base import Store
from mm1.train.batch_plan import BatchPlan
from mm1.train.callback import Callback
from mm1.train.engine import Engine
from mm1.train.inputs import ModelInputs
from mm1.train.pauses import pause

if TYPE_CHECKING:
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult

log = logging.getLogger(__name__)

LEAST_LIMIT_S, LIMIT_S = 600.0, 60.0
"""Limit of a validation, and of each of its micro-batches."""


class Validation(Callback):
    """Computes validation losses, on all ranks.

    Args:
        engine: the model.
        batches: source -> this rank's micro-batches.
        inputs: prepares a micro-batch for the model.
        every: steps between two validations.
        rank: this process.
    """

    def __init__(
        self, engine: Engine, batches: Mapping[str, Sequence[Batch]], inputs: ModelInputs, every: int, rank: int
    ) -> None:
        self.engine = engine
        self.batches = batches
        self.inputs = inputs
        self.every, self.rank = every, rank

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Validate if it is due, and record the losses in the progress of the run."""
        if progress.step % self.every == 0 or progress.done:
            limit_s = max(LEAST_LIMIT_S, LIMIT_S * sum(map(len, self.batches.values())))
            with pause("validating", limit_s, self.rank):
                progress.validation, progress.validated_step = self.losses(), progress.step

    def losses(self) -> dict[str, float]:
        """Compute the mean loss per predicted token of each source.

        Raises:
            DivergedError: a loss is not finite.
        """
        sums_K2 = torch.zeros(len(self.batches), 2, dtype=torch.float64, device=self.engine.device)  # K sources
        with self.engine.phases("validation"), self.engine.evaluating():
            for number, batches in enumerate(self.batches.values()):
                for batch in batches:
                    inputs, _ = self.inputs(batch)
                    output = self.engine(**inputs, use_cache=False)
                    sums_K2[number, 0] += output.sequence_loss.double().sum()
                    sums_K2[number, 1] += output.sequence_tokens.double().sum()
            totals = zip(self.batches, self.engine.all_sum(sums_K2).tolist(), strict=True)
        losses = {name: loss / tokens for name, (loss, tokens) in totals if tokens}
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise DivergedError(f"the validation loss of {name} is {loss}: a smaller optim.lr or optim.clip may help")
        return losses


def held_bytes(batches: Iterable[Batch]) -> int:
    """Return the size of micro-batches in bytes."""
    return sum(tensor.nbytes for batch in batches for tensor in batch.values())


def held_out_batches(store: Store, mix: DataMix, batch_plan: BatchPlan, rank: int, limit: int) -> dict[str, list[Batch]]:
    """Read the micro-batches on which a rank validates: source -> micro-batches, as many on every rank.

    Args:
        store: store of the mixture and its data.
        mix: the mixture.
        batch_plan: micro-batch and number of ranks.
        rank: this process.
        limit: maximum number of sequences per source, over all ranks.

    Returns:
        Nothing, with a line in the log, if the mixture holds out no samples.
    """
    names = [source.name for source in mix.sources if source.num_held_out]
    if not names:
        log.info("no validation losses: the mixture holds out no samples; create it with holdout=0.01 (step data_mix) for them")
    return {
        name: list(open_holdout(store, mix, name).batches(batch_plan.micro_batch, rank, batch_plan.world_size, limit))
        for name in names
    }
