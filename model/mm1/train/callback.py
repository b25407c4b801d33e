"""What a side effect of training looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm1.train.progress import Progress

if TYPE_CHECKING:  # torch, which the process that feeds Weights & Biases beside a run does not need
    from mm1.train.step import StepResult


class Callback:
    """A side effect of training; each has one duty. :mod:`mm1.train.run_callbacks` says how to add one."""

    def on_start(self, progress: Progress) -> None:
        """Called once, before the first step of this process."""

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Called after each step.

        Args:
            progress: where the run stands, this step counted.
            result: figures of the step.
            rate_factor: share of the peak learning rate that the step was done with.
        """

    def on_end(self, progress: Progress) -> None:
        """Called once when no step follows, whatever the reason: the last one is done, a request to stop, an error.

        Args:
            progress: where the run stands.
        """
