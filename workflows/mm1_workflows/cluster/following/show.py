"""What a person sees of a run on a cluster: a live table with the logs above it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mm1.lineage.text import duration
from mm1_workflows.cluster.following.nodes import WAITING, Task
from mm1_workflows.cluster.following.outcome import image_problem
from mm1_workflows.cluster.following.streams import Line, label_of

PROGRESS_S = 10.0
"""Plain lines tell of progress at most so often."""
SPARE_ROWS = 6
"""Rows of a terminal that the table leaves free."""
STYLES = {
    WAITING: "dim",
    "Pending": "yellow",
    "Running": "bold cyan",
    "Succeeded": "green",
    "Failed": "bold red",
    "Error": "bold red",
    "Skipped": "dim",
    "Omitted": "dim",
}


class Display(Protocol):
    """Receives what happens."""

    def update(self, tasks: Sequence[Task]) -> None:
        """The tasks as they are now."""

    def line(self, line: Line) -> None:
        """A line of a log."""

    def note(self, text: str) -> None:
        """A remark about the run as a whole."""

    def close(self) -> None:
        """Nothing more comes."""


class LogDisplay:
    """Logs only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def update(self, tasks: Sequence[Task]) -> None:
        """See :class:`Display`."""

    def line(self, line: Line) -> None:
        """See :class:`Display`."""
        text = Text.from_ansi(line[1]) if self.console.is_terminal else Text(line[1])
        self.console.print(Text(label_of(line), style="cyan").append(" ").append_text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """See :class:`Display`."""
        self.console.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """See :class:`Display`."""


class PlainDisplay(LogDisplay):
    """One line per change."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.said: dict[str, str] = {}
        self.progress: dict[str, tuple[float, tuple[int, int]]] = {}

    def update(self, tasks: Sequence[Task]) -> None:
        """See :class:`Display`."""
        for task in tasks:
            words = state_words(task)
            # the kubelet goes to and fro between trying to get an image and waiting to try again
            state = f"{task.phase} no image" if image_problem(task.message) else words
            if task.phase != WAITING and self.said.get(task.name) != state:
                self.said[task.name] = state
                self._tell(task, words)
            elif task.phase == "Running" and task.progress:
                told, value = self.progress.get(task.name, (0.0, (0, 0)))
                if value != task.progress and time.monotonic() - told >= PROGRESS_S:
                    self.progress[task.name] = (time.monotonic(), task.progress)
                    self._tell(task, f"{task.progress[0]}/{task.progress[1]}")

    def _tell(self, task: Task, words: str) -> None:
        self.console.print(Text(f"{time.strftime('%H:%M:%S')}  {task.name:<16}  {words}"), soft_wrap=True)


class LiveDisplay(LogDisplay):
    """A table that is redrawn in place; logs run above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.live = Live(console=console, auto_refresh=False)
        self.live.start()

    def update(self, tasks: Sequence[Task]) -> None:
        """See :class:`Display`."""
        self.live.update(table(tasks, max(5, self.console.height - SPARE_ROWS)), refresh=True)

    def close(self) -> None:
        """See :class:`Display`."""
        self.live.stop()


def state_words(task: Task) -> str:
    """The state of a task in words; what changes all the time (times, progress) is left out until it is over."""
    words = task.phase.lower()
    if len(task.attempts) > 1:
        words += f" (attempt {len(task.attempts)})"
    if task.phase == "Running" and task.host:
        words += f" on {task.host}"
    if task.phase in ("Succeeded", "Failed", "Error") and (seconds := task.seconds(datetime.now(UTC))) is not None:
        words += f" after {duration(seconds)}"
    return f"{words}: {task.message}" if task.message and task.phase not in ("Succeeded", "Omitted") else words


def table(tasks: Sequence[Task], rows: int) -> Table:
    """The state of all tasks; when they are too many, what is over and went well is only counted."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("step", "phase", "time", "node", "progress", "attempts", "message"):
        result.add_column(name, justify="right" if name in ("time", "attempts") else "left", overflow="ellipsis")
    shown = list(tasks)
    if len(shown) > rows:
        shown = [task for task in tasks if task.phase not in ("Succeeded", "Skipped", "Omitted", WAITING)][:rows]
    now = datetime.now(UTC)
    for task in shown:
        seconds = task.seconds(now)
        result.add_row(
            Text(task.name),
            Text(task.phase.lower(), style=STYLES.get(task.phase, "")),
            "" if seconds is None or not task.attempts else duration(seconds),
            Text(task.host),
            _bar(task),
            str(len(task.attempts)) if len(task.attempts) > 1 else "",
            Text("" if task.phase == "Succeeded" else " ".join(task.message.split())),
        )
    if hidden := Counter(task.phase.lower() for task in tasks if task not in shown):
        result.add_row(Text(", ".join(f"{count} {phase}" for phase, count in hidden.items()), style="dim"))
    return result


def _bar(task: Task) -> ProgressBar | Text:
    if not task.progress or task.phase != "Running":
        return Text("")
    done, total = task.progress
    return ProgressBar(total=total, completed=done, width=20)


def choose(console: Console, *, watch: bool) -> Display:
    """The display that fits what is wanted and where it goes."""
    if not watch:
        return LogDisplay(console)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
