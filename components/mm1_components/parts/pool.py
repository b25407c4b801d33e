"""A pool of processes for the parts of ingest, one per core; results do not depend on the number of processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mm1 import machine
from mm1.errors import OutOfMemory

ResultT = TypeVar("ResultT")


class Pool:
    """A process pool. Everything that the tasks share must exist before it is created (the processes are forks)."""

    def __init__(self) -> None:
        self.processes = machine.cores()
        context = multiprocessing.get_context("fork")
        self._executor = (
            ProcessPoolExecutor(self.processes, mp_context=context, initializer=_start_process, initargs=(os.getpid(),))
            if self.processes > 1
            else None
        )

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._executor is None:
            return
        if kind is not None:  # a signal or a failed part: the other results are no longer needed
            # SIGKILL, not SIGTERM: a process that exits while holding the queue's lock would block the others
            for process in multiprocessing.active_children():
                process.kill()
        self._executor.shutdown(cancel_futures=True)

    def map(
        self, work: Callable[..., ResultT], tasks: Sequence[object], done: Callable[[], None] = lambda: None
    ) -> list[ResultT]:
        """Return the results in the order of the tasks.

        Raises:
            OutOfMemory: a process was killed.
            Mm1Error: the error of a task.
        """
        if self._executor is None:
            results = []
            for task in tasks:
                results.append(work(task))
                done()
            return results
        futures = [self._executor.submit(work, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                done()
        except BrokenProcessPool:
            raise OutOfMemory(
                "a worker process of ingest was killed, probably out of memory; run the same command again: finished parts are "
                "not repeated"
            ) from None
        return [future.result() for future in futures]


def _start_process(parent: int) -> None:
    """Make a worker exit on SIGTERM and with its parent; otherwise it would wait for work forever."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # handled by the parent
    machine.exit_with_parent(parent)
