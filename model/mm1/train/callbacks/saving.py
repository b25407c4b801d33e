"""The callback that saves checkpoints to resume from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm1.train.callback import Callback

if TYPE_CHECKING:
    from mm1.train.checkpoints import Checkpoints
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult


class Saving(Callback):
    """Saves a checkpoint every ``every`` steps; :class:`~mm1.train.run.Run` saves the finished one.

    Args:
        every: steps between two checkpoints.
        checkpoints: saves them.
    """

    def __init__(self, every: int, checkpoints: Checkpoints) -> None:
        self.every = every
        self.checkpoints = checkpoints

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Save a checkpoint if one is due."""
        if progress.step % self.every == 0 and not progress.done:
            self.checkpoints.save(progress)
        self.checkpoints.check()
