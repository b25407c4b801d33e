"""Graceful stop: on the first SIGTERM or SIGINT, finish the current step, save a checkpoint and exit with code 87."""

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


class Received:
    """Signal handler that keeps the number of the last signal, and no part of a run alive."""

    number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note a signal."""
        # A second signal must not have its default effect: torchrun forwards each signal that it gets, and a terminal's
        # Ctrl-C also reaches the whole process group.
        self.number = number


class Preemption(Callback):
    """Stops all ranks at the same step when one of them receives a signal.

    Args:
        engine: informs the other ranks.
        checkpoints: saves a checkpoint of the current step.
    """

    def __init__(self, engine: Engine, checkpoints: Checkpoints) -> None:
        self.engine = engine
        self.checkpoints = checkpoints
        self._received = received = Received()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, received)

    @property
    def signal(self) -> int:
        """Number of the signal received, 0 for none."""
        return self._received.number

    @signal.setter
    def signal(self, number: int) -> None:
        self._received.number = number

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Save and stop if any rank received a signal."""
        (signals,) = self.engine.reduce([float(self.signal)])
        if not signals or progress.done:
            return
        self.checkpoints.save(progress)
        self.checkpoints.wait()  # on every rank until the manifest is published
        raise Preempted(
            f"stopped after step {progress.step} of {progress.total_steps}, checkpoint saved; "
            "run the same command again to continue"
        )
