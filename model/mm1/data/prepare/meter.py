"""Progress of a mapper: rows, bytes and seconds by kind of work, reported every second or so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TypeVar

ItemT = TypeVar("ItemT")
WORK = ("reading", "filters", "writing")
"""Kinds of work."""
REPORT_S = 1.0


class Meter:
    """Counts what a mapper does.

    Args:
        report: called with the increases since the last call: rows, bytes, and seconds in the order of :data:`WORK`.
    """

    def __init__(self, report: Callable[[list[float]], None] | None = None) -> None:
        self._report = report
        self._new = [0.0] * (2 + len(WORK))
        self._lap = self._reported = perf_counter()

    def count(self, items: Iterable[ItemT], position: Callable[[], int]) -> Iterator[ItemT]:
        """Yield items, counting them and the bytes read; the time until an item is there is reading.

        Args:
            items: the items.
            position: returns the bytes read so far, in all files together.
        """
        before = 0
        self._lap = perf_counter()
        for item in items:
            self.done("reading")
            now = position()
            self._new[0] += 1
            self._new[1] += now - before
            before = now
            yield item
            self.flush(REPORT_S)
        self._new[1] += position() - before
        self.flush()

    def done(self, work: str) -> None:
        """Add the time since the last call to a kind of work."""
        now = perf_counter()
        self._new[2 + WORK.index(work)] += now - self._lap
        self._lap = now

    def flush(self, after_s: float = 0.0) -> None:
        """Report, if the last report was long enough ago."""
        if self._report is not None and self._lap - self._reported >= after_s:
            self._report(self._new)
            self._new = [0.0] * len(self._new)
            self._reported = self._lap
