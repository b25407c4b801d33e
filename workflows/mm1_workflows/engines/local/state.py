"""What the local runner knows about each task while it runs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from enum import Enum

from mm1.errors import Outcome
from mm1_workflows.argo.graph import TaskNode


class State(Enum):
    """Where a task stands; the value is the word that people read."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    OMITTED = "omitted"

    @property
    def over(self) -> bool:
        """Nothing more will happen."""
        return self not in (State.WAITING, State.RUNNING, State.RETRYING)

    @property
    def good(self) -> bool:
        """What comes after may run."""
        return self in (State.DONE, State.CACHED, State.SKIPPED)


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
    outcome: Outcome = Outcome.DONE
    message: str = ""

    @property
    def seconds(self) -> float:
        """How long it has run, retries included."""
        if not self.started:
            return 0.0
        return (self.ended or time.monotonic()) - self.started
