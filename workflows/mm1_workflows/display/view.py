"""One task as a person sees it, wherever it runs: the words for its state, and the figures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mm1.errors import Ending
from mm1.lineage.text import duration


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


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """A task at one moment."""

    name: str
    state: State
    started: datetime | None = None
    """Where the clock time of its start is known."""
    seconds: float | None = None
    """How long it has run, s, retries included; None before it starts."""
    progress: tuple[int, int] | None = None
    """Done and total, when the task says how far it is."""
    message: str = ""
    """Why it waits, is tried again or failed."""
    attempts: int = 0
    host: str = ""
    """The machine that it runs on, when that is not this one."""
    figures: str = ""
    """What it says about itself while it runs: a training step its loss, speed and the like."""
    result: str = ""
    """The short digest of its manifest, and its scalar outputs."""

    @property
    def change(self) -> tuple[object, ...]:
        """What is worth a line of its own when it changes."""
        return self.state, self.attempts, self.host, self.message

    @property
    def headline(self) -> str:
        """The state with its attempt, place, duration and reason."""
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
    def sign_of_life(self) -> str:
        """That it still goes on, for how long, how far it is, and its figures or what it waits for."""
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
    """Outcome class and message of an attempt that failed."""
    return f"{ending.outcome.label}: {ending.message}" if ending.message else ending.outcome.label
