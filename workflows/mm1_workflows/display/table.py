"""The table of tasks: live, with one row per task, or static and in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mm1.lineage.text import duration, short_name
from mm1_workflows.display.view import State, TaskView

BAR_WIDTH = 20
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


def task_table(views: Sequence[TaskView], rows: int | None = None) -> Table:
    """Build the table of tasks with their states; empty columns are omitted.

    Args:
        views: the tasks in their order.
        rows: number of rows on a live screen; if there are more tasks, finished ones are only counted. None: a static table,
            in full.
    """
    live = rows is not None
    visible = list(views) if rows is None else fitting(views, rows)
    columns = _columns(views, live)
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in ("time", "attempts") else "left"
        # with one row per task, the message is truncated
        result.add_column(name, justify=justify, overflow="fold", no_wrap=live and name != "message")
    for view in visible:
        cells = _cells(view, live)
        result.add_row(*(cells[name] for name in columns))
    if hidden := Counter(view.state.value for view in views if view not in visible):
        result.add_row(Text(", ".join(f"{count} {state}" for state, count in hidden.items()), style="dim"))
    return result


def styled(state: State) -> Text:
    """Format a state in its colour."""
    return Text(state.value, style=STYLES[state])


def fitting(views: Sequence[TaskView], rows: int) -> list[TaskView]:
    """Return the tasks that fit into the rows, omitting successful and omitted tasks first, then waiting ones."""
    if len(views) <= rows:
        return list(views)
    visible = [view for view in views if not (view.state.good or view.state is State.OMITTED)]
    if len(visible) > rows:
        visible = [view for view in visible if view.state is not State.WAITING or view.message]
    return visible[:rows]


def _columns(views: Sequence[TaskView], live: bool) -> list[str]:
    present = {
        "started (UTC)": not live and any(view.started for view in views),
        "progress": live and any(view.progress for view in views),
        "attempts": any(view.attempts > 1 for view in views),
        "host": any(view.host for view in views),
        "result": any(view.result for view in views),
        "message": any(view.message for view in views),
    }
    order = ("task", "state", "started (UTC)", "time", "progress", "attempts", "host", "result", "message")
    return [name for name in order if present.get(name, True)]


def _cells(view: TaskView, live: bool) -> dict[str, Text | ProgressBar]:
    bar: Text | ProgressBar = Text("")
    if view.progress and view.state is State.RUNNING:
        done, total = view.progress
        bar = ProgressBar(total=max(total, 1), completed=done, width=BAR_WIDTH)
    return {
        "task": Text(short_name(view.name)),
        "state": styled(view.state),
        "started (UTC)": Text(f"{view.started:%Y-%m-%d %H:%M:%S}" if view.started else ""),
        "time": Text("" if view.seconds is None else duration(view.seconds)),
        "progress": bar,
        "attempts": Text(str(view.attempts) if view.attempts > 1 else ""),
        "host": Text(view.host),
        "result": Text(view.result),
        "message": Text(view.line, no_wrap=live, overflow="ellipsis" if live else None),
    }
