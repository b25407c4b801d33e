"""An orderly stop: the first SIGTERM or SIGINT lets the current step end, saves a checkpoint and ends with class 87."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from mm1.errors import Preempted
from mm1.train.callback import Callback
from mm1.train.engine import Engine

if TYPE_CHECKING:
    from mm1.train.checkpoints import Checkpoints
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult


class Preemption(Callback):
    """Stops all ranks at the same step when one of them was asked to.

    Args:
        engine: tells the other ranks.
        checkpoints: makes one of the current step.
    """

    def __init__(self, engine: Engine, checkpoints: Checkpoints) -> None:
        self.engine = engine
        self.checkpoints = checkpoints
        self.asked = 0
        """Number of the signal that asked, 0 for none."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # A second signal is not left to its default effect: torchrun hands on each one that it gets, and a terminal's
        # Ctrl-C reaches the whole group besides.
        self.asked = number

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Save and stop if any rank was asked to."""
        (asked,) = self.engine.reduce([float(self.asked)])
        if not asked or progress.done:
            return
        self.checkpoints.save(progress)
        self.checkpoints.wait()
        self.engine.gather(None)  # nobody goes away before the manifest is there
        raise Preempted(
            f"stopped after step {progress.step} of {progress.total_steps}, checkpoint saved; "
            "run the same command again to continue"
        )
