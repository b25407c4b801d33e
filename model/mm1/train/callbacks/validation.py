"""The callback that computes the loss of each source on its held-out samples, every n steps and after the last one.

    held-out samples -> the first sequences, packed as in training -> micro-batches of each rank, read before the first step
    every n steps: forward passes in eval mode, without gradients -> sums over the ranks -> mean loss per prediction (token; in
        stage vision pair or patch)

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
from mm1.train.objective import StepObjective
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
        objective: computes the losses.
        every: steps between two validations.
        rank: this process.
    """

    def __init__(
        self, engine: Engine, batches: Mapping[str, Sequence[Batch]], objective: StepObjective, every: int, rank: int
    ) -> None:
        self.engine = engine
        self.batches = batches
        self.objective = objective
        self.every, self.rank = every, rank

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Validate if it is due, and record the losses in the progress of the run."""
        if progress.step % self.every == 0 or progress.done:
            limit_s = max(LEAST_LIMIT_S, LIMIT_S * sum(map(len, self.batches.values())))
            with pause("validating", limit_s, self.rank):
                progress.validation, progress.validation_retrieval = self.means()
                progress.validated_step = progress.step

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Compute the mean loss per prediction of each source, and the share of captions that are found.

        Returns:
            Both by source; the second is empty for an objective that compares no pairs.

        Raises:
            DivergedError: a loss is not finite.
        """
        with self.engine.phases("validation"), self.engine.evaluating():
            sums = [self.objective.held_out(batches) for batches in self.batches.values()]
            sums_KF = torch.stack([torch.stack([value for value in own if value is not None]) for own in sums])  # K sources
            totals = dict(zip(self.batches, self.engine.all_sum(sums_KF).tolist(), strict=True))
        losses = {name: loss / number for name, (loss, number, *_) in totals.items() if number}
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise DivergedError(f"the validation loss of {name} is {loss}: a smaller optim.lr or optim.clip may help")
        return losses, {name: hits[0] / number for name, (_, number, *hits) in totals.items() if number and hits}


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
