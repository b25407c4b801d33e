"""Interface of callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm1.train.progress import Progress

if TYPE_CHECKING:  # imports torch, which the process that feeds Weights & Biases does not need
    from mm1.train.step import StepResult


class Callback:
    """A side effect of training, with one responsibility. :mod:`mm1.train.run_callbacks` explains how to add one."""

    def on_start(self, progress: Progress) -> None:
        """Called once, before the first step of this process."""

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Called after each step.

        Args:
            progress: progress of the run, this step included.
            result: figures of the step.
            rate_factor: learning rate of the step as a share of the peak.
        """

    def on_end(self, progress: Progress) -> None:
        """Called once when no step follows: after the last one, a request to stop or an error.

        Args:
            progress: progress of the run.
        """
