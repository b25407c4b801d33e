"""The view of a task, on a cluster or on this machine: state, times, progress and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mm1.errors import Ending
from mm1.lineage.text import duration


class State(Enum):
    """The state of a task; the value is its name in the display."""

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
        """Whether the task has ended."""
        return self not in (State.WAITING, State.RUNNING, State.RETRYING)

    @property
    def good(self) -> bool:
        """Whether the tasks that depend on it may run."""
        return self in (State.DONE, State.CACHED, State.SKIPPED)


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """A snapshot of a task."""

    name: str
    state: State
    started: datetime | None = None
    """Time of its start, if known."""
    seconds: float | None = None
    """Run time in seconds, including retries; None before it starts."""
    progress: tuple[int, int] | None = None
    """Done and total, if the task reports progress."""
    message: str = ""
    """Why it is waiting, being retried, or failed."""
    attempts: int = 0
    host: str = ""
    """The machine that it runs on, if not this one."""
    figures: str = ""
    """Metrics while it is running: for a training step, its loss, speed and so on."""
    result: str = ""
    """Abbreviated digest of its output manifest, and its scalar outputs."""

    @property
    def change(self) -> tuple[object, ...]:
        """The fields whose changes are printed as a line."""
        return self.state, self.attempts, self.host, self.message

    @property
    def headline(self) -> str:
        """The state with attempt, host, duration and reason."""
        text = self.state.value
        if self.state is State.RETRYING:
            text += f" after attempt {self.attempts}"
        elif self.attempts > 1:
            text += f" (attempt {self.attempts})"
        if self.state is State.RUNNING and self.host:
            text += f" on {self.host}"
        if self.state.over and self.seconds is not None:
            text += f" after {duration(self.seconds)}"
        return f"{text}: {self.line}" if self.message else text

    @property
    def heartbeat(self) -> str:
        """The state with duration, progress, and metrics or reason."""
        text = f"{self.state.value} for {duration(self.seconds)}"
        if self.progress:
            text += f", {self.progress[0]}/{self.progress[1]}"
        detail = self.figures or self.line
        return f"{text}: {detail}" if detail else text

    @property
    def line(self) -> str:
        """The message on one line."""
        return " ".join(self.message.split())


def reason(ending: Ending) -> str:
    """Format the outcome class and message of a failed attempt."""
    return f"{ending.outcome.label}: {ending.message}" if ending.message else ending.outcome.label
