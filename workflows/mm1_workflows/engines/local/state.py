"""State of each task in the local runner."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field

from mm1.errors import Ending, Outcome
from mm1_workflows.argo.graph import TaskNode
from mm1_workflows.display.view import State, TaskView, reason
from mm1_workflows.engines.local.stopping import Overtime

SUCCESS = Ending(outcome=Outcome.DONE)


@dataclass
class Instance:
    """A process: a task, or an item of a looped task."""

    task: TaskNode
    key: str
    """Name of its folder, unique within the run."""
    label: str
    item: str | None = None
    state: State = State.WAITING
    attempts: int = 0
    started: float = 0.0
    """Start of the first attempt, monotonic clock, s."""
    attempt_started: float = 0.0
    ended: float = 0.0
    not_before: float = 0.0
    """Earliest start of a retry, monotonic clock, s."""
    process: subprocess.Popen[bytes] | None = None
    cores: frozenset[int] = frozenset()
    """Cores that it is bound to, as one of several items of a loop; empty: any."""
    overtime: Overtime | None = None
    """Of an attempt that has exceeded a time limit."""
    record_name: str = ""
    """Name of the task in the step's run record."""
    progress: tuple[int, int] | None = None
    figures: str = ""
    """Metrics of a running task: for a training step, its loss, speed and so on."""
    outputs: dict[str, str] = field(default_factory=dict)
    ending: Ending = SUCCESS
    """Ending of the latest finished attempt."""

    @property
    def seconds(self) -> float:
        """Run time in seconds, including retries."""
        if not self.started:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    @property
    def view(self) -> TaskView:
        """View of the task for the display."""
        failed = self.state in (State.FAILED, State.RETRYING)
        return TaskView(
            name=self.label,
            state=self.state,
            seconds=self.seconds if self.started else None,
            progress=self.progress,
            message=reason(self.ending) if failed else "",
            attempts=self.attempts,
            figures=self.figures if self.state is State.RUNNING else "",
        )
