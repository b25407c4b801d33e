"""Following the log of one pod after another: a thread reads the lines, and the supervisor fetches them.

The kubelet adds a nanosecond timestamp to each line. After a broken stream, reading resumes at the second of the last line,
and lines up to its timestamp are skipped, so no line is repeated.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from types import TracebackType

from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.waits import LOG_AGAIN_S, LOG_REST_S

log = logging.getLogger("mm1")


class LogFollower:
    """The log of the newest pod given to :meth:`look_at`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.pod: str | None = None
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def __enter__(self) -> LogFollower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()

    def look_at(self, pod: str | None) -> None:
        """Follow this pod from now on; None changes nothing."""
        if pod is None or pod == self.pod:
            return
        self.pod = pod
        self.thread = threading.Thread(target=self._read, args=(pod,), daemon=True)
        self.thread.start()

    def lines(self) -> Iterator[str]:
        """Yield the lines since the last call, each with its newline."""
        while not self.queue.empty():
            yield self.queue.get()

    def rest(self) -> Iterator[str]:
        """Yield the remaining lines of a pod that has ended."""
        if self.thread is not None:
            self.thread.join(LOG_REST_S)
        yield from self.lines()

    def _read(self, pod: str) -> None:
        last = ""
        while not self.ended.is_set() and self.pod == pod:
            try:
                for line in self.cluster.follow_log(pod, last[:19] + "Z" if last else None):
                    stamp, _, text = line.partition(" ")
                    when = sortable(stamp)
                    if when > last:
                        self.queue.put(text + "\n")
                        last = when
                if self.cluster.has_ended(pod):
                    return
            except Exception as error:  # noqa: BLE001 - the stream is reopened after any error
                is_forbidden = getattr(error, "status", 0) == 403 and not last
                log.log(logging.WARNING if is_forbidden else logging.DEBUG, "log of %s: %s", pod, error)
                if is_forbidden:
                    return  # training goes on without its log
            self.ended.wait(LOG_AGAIN_S)


def sortable(stamp: str) -> str:
    """Return a log timestamp with all nine fractional digits (trailing zeros are omitted in the log) and without the Z."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
