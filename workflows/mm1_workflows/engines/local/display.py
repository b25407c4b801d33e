"""What a person sees of a local run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mm1.lineage.text import duration
from mm1_workflows.engines.local.state import Instance, State

HEARTBEAT_S = 10.0
REFRESH_S = 0.25
STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "bold cyan",
    State.RETRYING: "yellow",
    State.DONE: "green",
    State.CACHED: "green",
    State.FAILED: "bold red",
    State.STOPPED: "yellow",
    State.SKIPPED: "dim",
    State.OMITTED: "dim",
}


class Display(Protocol):
    """Receives what happens."""

    def changed(self, instance: Instance) -> None:
        """A task has another state."""

    def tick(self, instances: Sequence[Instance]) -> None:
        """Called several times per second."""

    def close(self, instances: Sequence[Instance]) -> None:
        """The run is over."""


class PlainDisplay:
    """One line at the start and the end of a task, and a sign of life every ten seconds."""

    def __init__(self, console: Console, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.console = console
        self.heartbeat_s = heartbeat_s
        self.last: dict[str, float] = {}

    def changed(self, instance: Instance) -> None:
        """See :class:`Display`."""
        self.last[instance.key] = time.monotonic()
        words = instance.state.value
        if instance.state is State.RUNNING:
            words = "started" if instance.attempts == 1 else f"started again (attempt {instance.attempts})"
        elif instance.state is State.RETRYING:
            words = f"failed ({instance.outcome.name.lower()}), trying again: {instance.message}"
        elif instance.state in (State.DONE, State.CACHED, State.FAILED, State.STOPPED):
            words += f" after {duration(instance.seconds)}"
        self._line(instance.label, words)

    def tick(self, instances: Sequence[Instance]) -> None:
        """See :class:`Display`."""
        now = time.monotonic()
        for instance in instances:
            if instance.state is State.RUNNING and now - self.last.get(instance.key, now) >= self.heartbeat_s:
                self.last[instance.key] = now
                share = f", {instance.progress[0]}/{instance.progress[1]}" if instance.progress else ""
                share += f": {instance.figures}" if instance.figures else ""
                self._line(instance.label, f"running for {duration(instance.seconds)}{share}")

    def close(self, instances: Sequence[Instance]) -> None:
        """See :class:`Display`."""

    def _line(self, label: str, words: str) -> None:
        self.console.print(f"{time.strftime('%H:%M:%S')}  {label:<16}  {words}", markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A table that is redrawn in place; no thread of its own, so that processes can be started safely."""

    def __init__(self, console: Console) -> None:
        self.live = Live(console=console, auto_refresh=False, transient=False)
        self.live.start()
        self.drawn = 0.0

    def changed(self, instance: Instance) -> None:
        """See :class:`Display`."""
        self.drawn = 0.0

    def tick(self, instances: Sequence[Instance]) -> None:
        """See :class:`Display`."""
        if time.monotonic() - self.drawn >= REFRESH_S:
            self.drawn = time.monotonic()
            self.live.update(view(instances), refresh=True)

    def close(self, instances: Sequence[Instance]) -> None:
        """See :class:`Display`."""
        self.live.update(view(instances), refresh=True)
        self.live.stop()


def view(instances: Sequence[Instance]) -> Group:
    """The state of all tasks, and below it a line of figures of each that has some."""
    shown = [item for item in instances if item.figures and item.state is State.RUNNING]
    lines = [Text(f"{item.label}: {item.figures}", style="dim", no_wrap=True, overflow="ellipsis") for item in shown]
    return Group(table(instances), *lines)


def table(instances: Sequence[Instance]) -> Table:
    """The state of all tasks."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    result.add_column("step")
    result.add_column("state")
    result.add_column("time", justify="right")
    result.add_column("progress", width=30)
    for instance in instances:
        state = instance.state.value + (f" (attempt {instance.attempts})" if instance.attempts > 1 else "")
        bar: ProgressBar | Text = Text("")
        if instance.progress and instance.state is State.RUNNING:
            done, total = instance.progress
            bar = ProgressBar(total=max(total, 1), completed=done, width=30)
        elif instance.state in (State.FAILED, State.RETRYING):
            bar = Text(instance.outcome.name.lower(), style=STYLES[instance.state])
        spent = duration(instance.seconds) if instance.started else ""
        result.add_row(instance.label, Text(state, style=STYLES[instance.state]), spent, bar)
    return result


def choose(console: Console) -> Display:
    """The display that fits where the output goes."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
