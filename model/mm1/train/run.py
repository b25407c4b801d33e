"""A run in progress: the loop, its checkpoints and its result."""

from __future__ import annotations

from mm1.errors import DivergedError
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import TrainResult
from mm1.train.engine import Engine
from mm1.train.history import History
from mm1.train.loop import Loop
from mm1.train.progress import Progress
from mm1.train.recovery import skip_diverged
from mm1.train.run_parts import RunParts

FINAL_LOSS_SHARE = 0.05
"""Reported losses are means over this share of the steps, at the end."""


class Run:
    """The objects of a run that live longer than a step.

    Args:
        parts: parts of the run.
        loop: runs the steps.
    """

    def __init__(self, parts: RunParts, loop: Loop) -> None:
        self.parts, self.loop = parts, loop

    @property
    def progress(self) -> Progress:
        """Progress of the run."""
        return self.parts.progress

    @property
    def engine(self) -> Engine:
        """Model and optimizer."""
        return self.parts.engine

    @property
    def checkpoints(self) -> Checkpoints:
        """Saves checkpoints."""
        return self.parts.checkpoints

    @property
    def history(self) -> History:
        """Rows of the run."""
        return self.parts.history

    def go(self) -> TrainResult:
        """Train to the end and publish the finished checkpoint.

        Returns:
            The result; only that of rank 0 names the manifest.

        Raises:
            DivergedError: the run diverged; the batch to skip is in the store, so that the ranks can be started again.
            Mm1Error: another outcome.
        """
        started_after = self.progress.step
        try:
            self.loop.run()
        except DivergedError as error:
            raise skip_diverged(self.parts, error, self.loop.batch) from None
        manifest = self.checkpoints.finish(self.progress)
        self.parts.device_hours.keep()  # with the time of the last checkpoint
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
            validation_losses=self.progress.validation,
            validation_retrieval=self.progress.validation_retrieval,
            source_tokens=self.progress.source_tokens,
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
                "spikes": self.progress.spikes,
            },
        )
