"""Display of a run in progress: on a terminal, a live table below the logs; otherwise plain lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mm1.lineage.text import short_name
from mm1_workflows.display.table import task_table
from mm1_workflows.display.view import State, TaskView

HEARTBEAT_S = 10.0
SPARE_ROWS = 6
"""Number of terminal rows that are not used by the table."""
FEWEST_ROWS = 5
Key = tuple[str, int]
"""Name of a task and its occurrence: an exit task may have the same name as another task."""


class Display(Protocol):
    """Receives the events of a run."""

    def update(self, views: Sequence[TaskView]) -> None:
        """Show the current state of the tasks."""

    def log(self, label: str, text: str) -> None:
        """Show a line of a task's log."""

    def note(self, text: str) -> None:
        """Show a message about the run."""

    def close(self) -> None:
        """Finish the display."""


class LogDisplay:
    """Display of logs and messages only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def update(self, views: Sequence[TaskView]) -> None:
        """Show the current state of the tasks."""

    def log(self, label: str, text: str) -> None:
        """Show a line of a task's log."""
        line = Text.from_ansi(text) if self.console.is_terminal else Text(text)
        self.console.print(Text(f"[{label}]", style="cyan").append(" ").append_text(line), soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a message about the run."""
        self.console.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Finish the display."""


class PlainDisplay(LogDisplay):
    """Display with one line per change, and a status line every ten seconds."""

    def __init__(self, console: Console, heartbeat_s: float = HEARTBEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self.heartbeat_s, self.clock = heartbeat_s, clock
        self.changes: dict[Key, tuple[object, ...]] = {}
        self.printed: dict[Key, float] = {}

    def update(self, views: Sequence[TaskView]) -> None:
        """Show the current state of the tasks."""
        now = self.clock()
        occurrences: Counter[str] = Counter()
        for view in views:
            occurrences[view.name] += 1
            key = (view.name, occurrences[view.name])
            if self.changes.get(key) != view.change:
                self.changes[key], self.printed[key] = view.change, now
                if view.state is not State.WAITING or view.message:
                    self._print(view.name, view.headline)
            elif not view.state.over and view.seconds is not None and now - self.printed[key] >= self.heartbeat_s:
                self.printed[key] = now
                self._print(view.name, view.heartbeat)

    def _print(self, name: str, text: str) -> None:
        self.console.print(Text(f"{time.strftime('%H:%M:%S')}  {short_name(name):<16}  {text}"), soft_wrap=True)


class LiveDisplay(LogDisplay):
    """Live table with the metrics of running tasks below; without a thread, so that processes can be started safely."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.live = Live(console=console, auto_refresh=False)
        self.live.start()

    def update(self, views: Sequence[TaskView]) -> None:
        """Show the current state of the tasks."""
        self.live.update(screen(views, self.console.height), refresh=True)

    def close(self) -> None:
        """Finish the display."""
        self.live.stop()


def screen(views: Sequence[TaskView], height: int) -> Group:
    """Render the table and a line of metrics for each task that has them."""
    figures = [view for view in views if view.figures and view.state is State.RUNNING]
    lines = [
        Text(f"{short_name(view.name)}: {view.figures}", style="dim", no_wrap=True, overflow="ellipsis") for view in figures
    ]
    return Group(task_table(views, max(FEWEST_ROWS, height - SPARE_ROWS - len(lines))), *lines)


def choose(console: Console) -> Display:
    """Return the display for a terminal or for other output."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
