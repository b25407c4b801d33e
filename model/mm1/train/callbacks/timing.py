"""The callback that measures the phases of each step on every rank, and finds the rank that the others wait for."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from mm1.train.callback import Callback
from mm1.train.engine import Engine

if TYPE_CHECKING:
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult

EVERY = 10
"""Steps between two comparisons of the ranks, each of which is a reduction of one number per rank."""
OWN_WORK = ("data", "forward", "backward", "optimizer", "other")
"""Phases in which a rank works itself; in the others it waits for the rest, or all do the same."""


class Straggler(NamedTuple):
    """The slowest rank."""

    rank: int
    slower: float
    """Its own work of a step takes so much longer than that of the median rank, as a share."""
    seconds: float
    """Its own work of a step."""


class Timing(Callback):
    """Takes the times of the phases.

    Args:
        engine: has the clock, and reduces over the ranks.
        rank: this process.
        every: steps between two comparisons of the ranks.
    """

    def __init__(self, engine: Engine, rank: int, every: int = EVERY) -> None:
        self.engine, self.rank, self.every = engine, rank, every
        self.seconds: dict[str, float] = {}
        """Phase -> seconds in the last step."""
        self.straggler: Straggler | None = None
        """The slowest rank at the last comparison; None with one rank, or before."""
        self._own, self._steps = 0.0, 0

    def on_start(self, progress: Progress) -> None:
        """Start the clock: what came before is the start of the run."""
        self.engine.phases.take()

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Take the times of the step, and compare the ranks if it is due."""
        self.seconds = self.engine.phases.take()
        self._own += sum(self.seconds.get(name, 0.0) for name in OWN_WORK)
        self._steps += 1
        world_size = self.engine.batch_plan.world_size
        if world_size > 1 and (progress.step % self.every == 0 or progress.done):
            own = [0.0] * world_size
            own[self.rank] = self._own / self._steps
            self.straggler = find_straggler(self.engine.reduce(own))
            self._own, self._steps = 0.0, 0


def find_straggler(seconds: list[float]) -> Straggler:
    """Return the slowest rank.

    Args:
        seconds: own work of a step, by rank.
    """
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    median = statistics.median(seconds)
    return Straggler(slowest, seconds[slowest] / median - 1 if median else 0.0, seconds[slowest])
