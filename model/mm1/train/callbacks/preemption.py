"""Graceful stop: finish the current step, save a checkpoint and exit.

On the first SIGTERM or SIGINT with code 87, and with code 88 when the device hours of the run are used up.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from mm1.errors import BudgetUsedUp, Preempted
from mm1.train.callback import Callback
from mm1.train.callbacks.device_hours import DeviceHours, used_up_message
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
    """Stops all ranks at the same step when one of them receives a signal, or rank 0 has counted enough device hours.

    Args:
        engine: informs the other ranks.
        checkpoints: saves a checkpoint of the current step.
        device_hours: counts them, on rank 0.
    """

    def __init__(self, engine: Engine, checkpoints: Checkpoints, device_hours: DeviceHours) -> None:
        self.engine = engine
        self.checkpoints = checkpoints
        self.device_hours = device_hours
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
        """Save and stop if any rank received a signal, or the device hours are used up."""
        signals, used_up = self.engine.reduce([float(self.signal), float(self.device_hours.used_up)])
        if not (signals or used_up) or progress.done:
            return
        self.checkpoints.save(progress)
        self.checkpoints.wait()  # on every rank until the manifest is published
        where = f"stopped after step {progress.step} of {progress.total_steps}, checkpoint saved"
        if signals:
            raise Preempted(f"{where}; run the same command again to continue")
        raise BudgetUsedUp(f"{where}: {used_up_message(self.device_hours.limit)}")
