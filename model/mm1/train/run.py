"""A run in progress: the loop, its checkpoints, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from mm1.train.checkpoints import Checkpoints
from mm1.train.config import TrainResult
from mm1.train.engine import Engine
from mm1.train.history import History
from mm1.train.loop import Loop
from mm1.train.progress import Progress
from mm1.train.run_parts import RunParts

FINAL_LOSS_SHARE = 0.05
"""Share of the steps, at the end, that the reported losses are the mean of."""


class Run:
    """Everything of a run that outlives a step.

    Args:
        parts: what it is put together from.
        loop: does the steps.
        build: builds the same run from the checkpoints that there are then.
    """

    def __init__(self, parts: RunParts, loop: Loop, build: Callable[[], object]) -> None:
        self.parts, self.loop = parts, loop
        self._build = build

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.parts.progress

    @property
    def engine(self) -> Engine:
        """Model and optimiser."""
        return self.parts.engine

    @property
    def checkpoints(self) -> Checkpoints:
        """Makes checkpoints."""
        return self.parts.checkpoints

    @property
    def history(self) -> History:
        """Rows of the run."""
        return self.parts.history

    def go(self) -> TrainResult:
        """Train to the end and publish the finished checkpoint.

        Returns:
            Results; only those of rank 0 name the manifest.
        """
        started_after = self.progress.step
        self.loop.run()
        manifest = self.checkpoints.finish(self.progress)
        speed, batch_plan = self.parts.speed, self.engine.batch_plan
        return TrainResult(
            manifest=manifest,
            steps=self.progress.step,
            resumed_from=started_after,
            seconds=speed.seconds,
            tokens=speed.tokens,
            tokens_per_s=speed.tokens / speed.seconds,
            padding_share=1 - speed.tokens / max(speed.positions, 1),
            losses=self.history.mean_losses(max(1, round(FINAL_LOSS_SHARE * self.progress.total_steps))),
            facts={
                "processes": batch_plan.world_size,
                "micro_batch": batch_plan.micro_batch,
                "accumulation": batch_plan.accumulation,
                "num_parameters": self.engine.num_parameters,
                "trained_parameters": self.engine.num_trained,
                "peak_lr": self.history.peak_lr,
                "slowest_step_s": round(speed.slowest_step_s, 4),
                "checkpoint_s": round(self.checkpoints.stalled_s, 4),
                "damaged_samples": self.parts.loader.num_damaged,
                "skipped_batches": len(self.progress.skipped),
            },
        )

    def build_again(self) -> Self:
        """Build the run anew from its last checkpoint; this one can do nothing any more."""
        build = self._build
        del self.parts, self.loop, self._build  # the memory of model and optimiser, before another takes as much
        again = build()
        assert isinstance(again, type(self)), "unfinished work"
        return again
