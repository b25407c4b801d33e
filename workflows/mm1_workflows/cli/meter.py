"""Progress of long commands on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mm1.lineage.text import duration

LINE_S = 30.0
"""Seconds between two lines."""


class Meter:
    """Progress with rate and time left.

    Args:
        what: what makes progress.
        output: the console; standard error by default.
    """

    def __init__(self, what: str, output: Console | None = None) -> None:
        self.what = what
        self._output = output or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self._bar = Progress(*columns, console=self._output, transient=True) if self._output.is_terminal else None
        self._task = self._bar.add_task(what, figures="") if self._bar else None
        self._started = self._last = self._printed = time.monotonic()
        self._first: int | None = None
        self._done = 0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Prompts answered per second by this run."""
        return (self._done - (self._first or 0)) / max(1e-9, self._last - self._started)

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done; what was done at the first call does not count for the rate."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._started, self._printed = done, now, now
        self._done, self._last = done, now
        left_s = (total - done) / self.rate if self.rate > 0 else None
        figures = f"{done:,} of {total:,} prompts, {self.rate:.1f}/s, {duration(left_s)} left"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, figures=figures)
        elif now - self._printed >= LINE_S or done == total:
            self._printed = now
            self._output.print(f"{self.what}: {figures}", markup=False, soft_wrap=True)
