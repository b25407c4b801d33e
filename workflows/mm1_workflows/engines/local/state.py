"""What the local runner knows about each task while it runs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field

from mm1.errors import Ending, Outcome
from mm1_workflows.argo.graph import TaskNode
from mm1_workflows.display.view import State, TaskView, reason

SUCCESS = Ending(outcome=Outcome.DONE)


@dataclass
class Instance:
    """One process: a task, or one item of a task that loops."""

    task: TaskNode
    key: str
    """Name of its folder; also unique within the run."""
    label: str
    item: str | None = None
    state: State = State.WAITING
    attempts: int = 0
    started: float = 0.0
    """Monotonic clock, s; of the first attempt."""
    attempt_started: float = 0.0
    ended: float = 0.0
    not_before: float = 0.0
    """A retry waits until then."""
    process: subprocess.Popen[bytes] | None = None
    record_name: str = ""
    """Under which the step files its run record."""
    progress: tuple[int, int] | None = None
    figures: str = ""
    """What the task says of itself while it runs: a training step its loss, speed and the like."""
    outputs: dict[str, str] = field(default_factory=dict)
    ending: Ending = SUCCESS
    """Of its latest attempt that is over."""

    @property
    def seconds(self) -> float:
        """How long it has run, retries included."""
        if not self.started:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    @property
    def view(self) -> TaskView:
        """What the display shows of it."""
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
