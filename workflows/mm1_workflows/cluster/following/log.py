"""Reading a log to its end without repeated or lost lines, even if the stream breaks.

Each line has the timestamp at which the container wrote it. After a broken stream, the log is requested again from shortly
before the newest line, and delivered lines are recognized by timestamp and text. Timestamps may repeat, and neighbouring lines
may be out of order (standard output and error have two writers), so equal lines are counted.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from mm1.errors import ConfigurationError, NetworkError
from mm1_workflows.cluster.transport.base import NotFound

OVERLAP = timedelta(seconds=2)
"""Overlap of a reopened stream with the lines already read; servers truncate times to seconds."""
KEPT = timedelta(seconds=10)
PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
REFUSALS = 5

Source = Callable[[datetime | None, bool], AbstractContextManager[Iterator[str]]]
"""Opens the log from a time on; the second argument is whether to follow it."""


class Seen:
    """The lines of a log that were delivered in its last seconds."""

    def __init__(self) -> None:
        self.newest: datetime | None = None
        self._recent: deque[tuple[datetime, str]] = deque()
        self._again: Counter[str] = Counter()
        self._since: datetime | None = None

    def restart(self) -> datetime | None:
        """Return the time from which to request the log, before it is opened or reopened."""
        self._since = (self.newest - OVERLAP).replace(microsecond=0) if self.newest else None
        since = self._since
        self._again = Counter(raw for when, raw in self._recent if since and when >= since)
        return since

    def take(self, raw: str) -> str | None:
        """Return the text of a new line; None if the line was delivered already.

        Args:
            raw: timestamp, a space, and the text.
        """
        stamp, _, text = raw.partition(" ")
        when = _time(stamp)
        if when is None:  # not from the container, for example an answer of the kubelet
            return raw
        if self._since and when < self._since:
            return None
        if self._again[raw] > 0:
            self._again[raw] -= 1
            return None
        self.newest = max(when, self.newest or when)
        self._recent.append((when, raw))
        while self._recent and self._recent[0][0] < self.newest - KEPT:
            self._recent.popleft()
        return text


def read(
    source: Source,
    over: Callable[[], bool],
    deliver: Callable[[str], None],
    *,
    budget_s: float = 300.0,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Deliver the lines of a log until the container has ended.

    Args:
        source: opens the log.
        over: whether the container has ended; checked before each read, so that a read after its end is complete.
        deliver: callback for each line.
        budget_s: seconds without success after which it gives up.
        pause: sleeps for the given seconds.

    Returns:
        Whether the log has any lines.

    Raises:
        NetworkError: the log could not be opened within the budget.
    """
    seen = Seen()
    wait_s, lost_s, refusals = PAUSE_S, 0.0, 0
    while True:
        last, opened = over(), False
        try:
            with source(seen.restart(), not last) as lines:
                opened = True
                for raw in lines:
                    if (text := seen.take(raw)) is not None:
                        deliver(text)
            if last:
                return seen.newest is not None
        except NotFound:  # the container has not started, or its pod is gone
            if last:
                return seen.newest is not None
            opened = True
        except ConfigurationError as error:  # a server may reject requests while it starts
            refusals += 1
            if last or refusals > REFUSALS:
                deliver(f"(no log: {error})")
                return True
        except NetworkError:
            lost_s += wait_s
            if not opened and lost_s > budget_s:
                raise
        if opened:
            wait_s, lost_s = PAUSE_S, 0.0
        pause(wait_s)
        wait_s = min(wait_s * 2, LONGEST_PAUSE_S)


def _time(stamp: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
