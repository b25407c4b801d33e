"""Following the log of one pod after another: a thread reads, the supervisor takes; breaks are mended, nothing comes twice.

The kubelet gives each line its time to the nanosecond. After a break the stream starts again at the last second that was read,
and lines up to the last time are left out.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from types import TracebackType

from mm1_components.ranks.jobset.api import Cluster

log = logging.getLogger("mm1")

AGAIN_S = 1.0
REST_S = 10.0


class LogFollower:
    """The log of the newest pod it was shown."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.found: queue.SimpleQueue[str] = queue.SimpleQueue()
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
        """What has come since the last call, each with its line end."""
        while not self.found.empty():
            yield self.found.get()

    def rest(self) -> Iterator[str]:
        """The last lines of a pod that has ended."""
        if self.thread is not None:
            self.thread.join(REST_S)
        yield from self.lines()

    def _read(self, pod: str) -> None:
        last = ""
        while not self.ended.is_set() and self.pod == pod:
            try:
                for line in self.cluster.follow_log(pod, last[:19] + "Z" if last else None):
                    stamp, _, text = line.partition(" ")
                    when = sortable(stamp)
                    if when > last:
                        self.found.put(text + "\n")
                        last = when
                if self.cluster.has_ended(pod):
                    return
            except Exception as error:  # noqa: BLE001 - whatever breaks a stream, it is opened again
                log.debug("log of %s: %s", pod, error)
            self.ended.wait(AGAIN_S)


def sortable(stamp: str) -> str:
    """A time of a log line with all nine digits of its fraction (they come without zeros at the end), without the Z."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
