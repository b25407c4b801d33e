"""The logs of a run: one reader per pod, and one queue of lines, each labelled with its step (and node)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mm1.errors import Mm1Error
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following import log
from mm1_workflows.cluster.following.nodes import OVER, attempts_of
from mm1_workflows.cluster.following.pending import RankPod
from mm1_workflows.cluster.transport.base import Transport

LAST_LINES_S = 60.0
"""Seconds to wait for the last lines of the logs after the end of a run."""
BURST_S = 1.0
GONE = "(no log: its pod is gone"
"""Start of a message that continues with the remedy."""
Line = tuple[str, str]
"""Label (``ingest``, ``pretrain:1``) and text."""
Show = Callable[[str, str], None]
"""Callback for the label and text of a line."""


@dataclass
class Streams:
    """The log readers of a run."""

    transport: Transport
    run: str
    task: str = ""
    """Only read the logs of this task; the name of a loop selects all its items."""
    lines: queue.SimpleQueue[Line] = field(default_factory=queue.SimpleQueue)
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)
    _ranks: set[str] = field(default_factory=set)
    _all_over: threading.Event = field(default_factory=threading.Event)

    def update(self, workflow: Document, ranks: list[RankPod]) -> None:
        """Mark the pods that have ended, and start readers for those that have started."""
        for task, attempt in attempts_of(workflow):
            if attempt.phase in OVER:
                self._over.add(attempt.pod)
            if attempt.phase != "Pending" and is_selected(self.task, task.name):
                self._reader(attempt.pod, task.name)
        for rank in ranks:
            if rank.over:
                self._over.add(rank.pod)
            if rank.started and is_selected(self.task, rank.task):
                self._reader(rank.pod, f"{rank.task}:{rank.node}")
        self._ranks_gone({rank.pod for rank in ranks})

    def finish(self, show: Show) -> None:
        """Show the remaining lines after the end of the run, for a limited time."""
        self._all_over.set()
        limit = time.monotonic() + LAST_LINES_S
        while any(thread.is_alive() for thread in self._threads.values()) and time.monotonic() < limit:
            self.drain(show, 0.2)
        self.drain(show, 0.0)

    def drain(self, show: Show, seconds: float) -> None:
        """Show the lines that arrive within the given seconds, and all lines in the queue."""
        limit = time.monotonic() + seconds
        while True:
            remaining_s = limit - time.monotonic()
            if seconds and remaining_s < -BURST_S:
                return  # lines arrive faster than they can be shown: poll the run in between
            try:
                line = self.lines.get(timeout=remaining_s) if remaining_s > 0 else self.lines.get_nowait()
            except queue.Empty:
                return
            show(*line)

    def _reader(self, pod: str, label: str) -> None:
        if pod not in self._threads:
            self._threads[pod] = threading.Thread(target=self._read, args=(pod, label), daemon=True, name=f"log {label}")
            self._threads[pod].start()

    def _ranks_gone(self, listed: set[str]) -> None:
        """Mark rank pods that are no longer listed as ended."""
        self._over |= self._ranks - listed
        self._ranks = self._ranks | listed

    def _read(self, pod: str, label: str) -> None:

        def over() -> bool:
            return pod in self._over or self._all_over.is_set()

        try:
            read_pod(self.transport, self.run, pod, lambda text: self.lines.put((label, text)), over)
        except Mm1Error as error:
            self.lines.put((label, f"(the log stream broke: {error})"))


def read_pod(
    transport: Transport, run: str, pod: str, deliver: Callable[[str], None], over: Callable[[], bool] = lambda: True
) -> None:
    """Read a pod's log to its end, without lines of Argo's executor; from the archive if the pod is gone.

    Raises:
        NetworkError: the cluster is unreachable.
    """

    def step_only(text: str) -> None:
        if not of_the_engine(text):
            deliver(text)

    if log.read(partial(transport.log, run, pod), over, step_only):
        return
    archive = transport.archived(run, pod)
    advice = "and its log is not archived)" if "--server" in transport.options else "use --server to read Argo's archive)"
    for text in archive if archive is not None else [f"{GONE}; {advice}"]:
        step_only(text)


def of_the_engine(text: str) -> bool:
    """Whether a line in a step's log is from Argo's executor, which marks its lines."""
    return text.startswith("time=") and " level=INFO " in text and " argo=true" in text


def is_selected(task: str, name: str) -> bool:
    """Whether a task is selected by name: the task itself, an item of the loop, or any task if the name is empty."""
    return task in ("", name) or name.startswith(f"{task}(")
