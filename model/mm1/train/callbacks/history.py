"""The callback that fills the history of a run."""

from __future__ import annotations

from mm1.train.callback import Callback
from mm1.train.history import History
from mm1.train.progress import Progress
from mm1.train.step import StepResult


class RecordHistory(Callback):
    """Adds a row to the history after each step.

    Args:
        history: of the run; part of its checkpoints.
    """

    def __init__(self, history: History) -> None:
        self.history = history

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Add the row of a step."""
        self.history.add(progress, result, rate_factor)
