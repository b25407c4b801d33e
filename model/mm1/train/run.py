"""A run in progress: the loop, its checkpoints, and what comes of it."""

from __future__ import annotations

from mm1.train.callbacks.progress import ProgressLines
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import TrainResult
from mm1.train.engine import Engine
from mm1.train.history import History
from mm1.train.loop import Loop
from mm1.train.progress import Progress

FINAL_LOSS_SHARE = 0.05
"""Share of the steps, at the end, that the reported losses are the mean of."""


class Run:
    """Everything of a run that outlives a step.

    Args:
        loop: does the steps.
        engine: model and optimiser.
        checkpoints: makes them.
        history: rows of the run.
        speed: measures it.
    """

    def __init__(self, loop: Loop, engine: Engine, checkpoints: Checkpoints, history: History, speed: ProgressLines) -> None:
        self.loop, self.engine, self.checkpoints = loop, engine, checkpoints
        self.history, self.speed = history, speed

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.loop.progress

    def go(self) -> TrainResult:
        """Train to the end and publish the finished checkpoint.

        Returns:
            Results; only those of rank 0 name the manifest.
        """
        started_after = self.progress.step
        self.loop.run()
        manifest = self.checkpoints.finish(self.progress)
        speed, batch_plan = self.speed, self.engine.batch_plan
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
                "damaged_samples": self.checkpoints.loader.num_damaged,
                "skipped_batches": len(self.progress.skipped),
            },
        )
