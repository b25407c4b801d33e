"""The logs of a whole run: one reader per pod, all lines in one queue, each with the step (and node) that said it."""

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
"""How long the end of a run waits for the last lines of its logs."""
BURST_S = 1.0
GONE = "(no log: its pod is gone"
"""Continued by what can be done about it."""
Line = tuple[str, str]
"""Label (``ingest``, ``pretrain:1``) and text."""
Show = Callable[[str, str], None]
"""Takes label and text of a line."""


@dataclass
class Streams:
    """The log readers of a run."""

    transport: Transport
    run: str
    task: str = ""
    """Only this task's logs; a loop's name means all its items."""
    lines: queue.SimpleQueue[Line] = field(default_factory=queue.SimpleQueue)
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)
    _ranks: set[str] = field(default_factory=set)
    _all_over: threading.Event = field(default_factory=threading.Event)

    def update(self, workflow: Document, ranks: list[RankPod]) -> None:
        """Tell readers what has ended, and start readers for what has started: a log that is complete is read once."""
        for task, attempt in attempts_of(workflow):
            if attempt.phase in OVER:
                self._over.add(attempt.pod)
            if attempt.phase != "Pending" and wanted(self.task, task.name):
                self._reader(attempt.pod, task.name)
        for rank in ranks:
            if rank.over:
                self._over.add(rank.pod)
            if rank.started and wanted(self.task, rank.task):
                self._reader(rank.pod, f"{rank.task}:{rank.node}")
        self._ranks_gone({rank.pod for rank in ranks})

    def finish(self, show: Show) -> None:
        """The run is over: show what is still to come, for a bounded time."""
        self._all_over.set()
        limit = time.monotonic() + LAST_LINES_S
        while any(thread.is_alive() for thread in self._threads.values()) and time.monotonic() < limit:
            self.drain(show, 0.2)
        self.drain(show, 0.0)

    def drain(self, show: Show, seconds: float) -> None:
        """Show lines for so many seconds, and all that are there."""
        limit = time.monotonic() + seconds
        while True:
            left = limit - time.monotonic()
            if seconds and left < -BURST_S:
                return  # lines come faster than they can be shown: look after the run in between
            try:
                line = self.lines.get(timeout=left) if left > 0 else self.lines.get_nowait()
            except queue.Empty:
                return
            show(*line)

    def _reader(self, pod: str, label: str) -> None:
        if pod not in self._threads:
            self._threads[pod] = threading.Thread(target=self._read, args=(pod, label), daemon=True, name=f"log {label}")
            self._threads[pod].start()

    def _ranks_gone(self, listed: set[str]) -> None:
        """Rank pods that were listed before and are not any more have ended."""
        self._over |= self._ranks - listed
        self._ranks = self._ranks | listed

    def _read(self, pod: str, label: str) -> None:

        def over() -> bool:
            return pod in self._over or self._all_over.is_set()

        try:
            read_pod(self.transport, self.run, pod, lambda text: self.lines.put((label, text)), over)
        except Mm1Error as error:
            self.lines.put((label, f"(the log broke off: {error})"))


def read_pod(
    transport: Transport, run: str, pod: str, deliver: Callable[[str], None], over: Callable[[], bool] = lambda: True
) -> None:
    """A pod's log to its end, from the archive when the pod is gone; without the lines of Argo's executor.

    Raises:
        NetworkError: it cannot be reached.
    """

    def step_only(text: str) -> None:
        if not of_the_engine(text):
            deliver(text)

    if log.read(partial(transport.log, run, pod), over, step_only):
        return
    archive = transport.archived(run, pod)
    advice = "and none is archived)" if "--server" in transport.options else "with --server Argo's archive is read)"
    for text in archive if archive is not None else [f"{GONE}; {advice}"]:
        step_only(text)


def of_the_engine(text: str) -> bool:
    """Whether Argo's executor wrote a line into the step's log (it marks its own), not the step."""
    return text.startswith("time=") and " level=INFO " in text and " argo=true" in text


def wanted(task: str, name: str) -> bool:
    """Whether a task is the one that is asked for: itself, an item of a loop of that name, or any without a name."""
    return task in ("", name) or name.startswith(f"{task}(")
