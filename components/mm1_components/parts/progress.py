"""Progress of the parts of ingest: bytes and rows of all, rate, time left, and what takes the time."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from mm1.data.prepare.meter import WORK
from mm1_components.wrapper.declaration import Context

log = logging.getLogger(__name__)

SHOW_S = 5.0
"""Seconds between updates of the engine's display."""
LOG_S = 30.0
"""Seconds between lines in the log."""
_counts = multiprocessing.get_context("fork").Array("d", 2 + len(WORK))
"""Rows, bytes, and seconds by kind of work, of all processes of this step."""
_finished_before = multiprocessing.get_context("fork").Value("d")
"""Bytes of the parts that an earlier run has filtered."""


def report(increases: Sequence[float]) -> None:
    """Add the counts of a process."""
    with _counts.get_lock():
        for index, increase in enumerate(increases):
            _counts[index] += increase


def skip(num_bytes: float) -> None:
    """Take a part that an earlier run has filtered out of what is to be done."""
    with _finished_before.get_lock():
        _finished_before.value += num_bytes


class Progress:
    """Shows the progress while parts are filtered and sharded; a context manager.

    Args:
        context: the step's context.
        num_bytes: bytes of all parts; 0 = unknown.
        num_parts: number of parts, each of which is filtered, and sharded if ``rounds`` is 2.
        rounds: number of rounds over the parts.
    """

    def __init__(self, context: Context, num_bytes: int, num_parts: int, rounds: int = 1) -> None:
        self._context = context
        self._num_bytes = num_bytes
        self._total = rounds * num_parts
        self._done = 0
        self._started = self._logged = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        with _counts.get_lock():
            _counts[:] = [0.0] * len(_counts)
        _finished_before.value = 0.0

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def advance(self) -> None:
        """Count a finished part."""
        self._done += 1
        self._context.progress(self._done, self._total)

    def _show(self) -> None:
        while self._num_bytes and not self._over.wait(SHOW_S):
            line = describe(_counts[:], self._num_bytes - _finished_before.value, time.monotonic() - self._started)
            self._context.figures(line)
            if time.monotonic() - self._logged >= LOG_S:
                self._logged = time.monotonic()
                log.info("%d of %d parts, %s", self._done, self._total, line)


def describe(counts: Sequence[float], num_bytes: int, seconds: float) -> str:
    """Format the progress of filtering.

    Args:
        counts: rows, bytes, and seconds by kind of work.
        num_bytes: bytes of all parts that are filtered in this run.
        seconds: time since the start.
    """
    rows, done, *work = counts
    rate = done / max(seconds, 1e-9)
    line = f"{done / 1e6:,.0f} of {num_bytes / 1e6:,.0f} MB, {rows:,.0f} rows, {rate / 1e6:.1f} MB/s"
    if done >= num_bytes:
        line += ", all filtered"
    elif rate:
        line += f", {timedelta(seconds=round(max(0.0, num_bytes - done) / rate))} left"
    if total := sum(work):
        share, name = max(zip(work, WORK, strict=True))
        line += f", {share / total:.0%} {name}"
    return line
