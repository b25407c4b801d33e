"""Ending the processes of a task, at once or at a time limit: SIGTERM, and SIGKILL after the grace period, as in a pod."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace

import psutil  # type: ignore[import-untyped] # its stubs are not among the dependencies

from mm1.errors import Ending, Outcome


class Overtime:
    """The grace period of a task that has exceeded a time limit; the runner polls it, so the other tasks are not held up."""

    def __init__(self, process: subprocess.Popen[bytes], grace_s: float, why: str) -> None:
        """Send SIGTERM.

        Args:
            process: the task's process.
            grace_s: seconds until SIGKILL.
            why: the limit, for the message of the task.
        """
        self.process, self.grace_s, self.why = process, grace_s, why
        self.started = time.monotonic()
        self.children: list[psutil.Process] = descendants(process.pid)
        process.terminate()

    def poll(self) -> None:
        """Kill the task and its children if the grace period is over."""
        if time.monotonic() - self.started > self.grace_s:
            kill_tree(self.process, [*self.children, *descendants(self.process.pid)])

    def ending(self, ending: Ending) -> Ending:
        """Return the ending of the stopped task, after killing its remaining children. Its class is that of its exit code.

        Args:
            ending: the ending by exit code. A task that succeeds in its grace period has failed, as in Argo.
        """
        kill_tree(self.process, self.children)
        if ending.outcome is Outcome.DONE:
            return Ending(outcome=Outcome.UNHANDLED, message=self.why)
        return replace(ending, message=f"{self.why}; {ending.message}")


def kill_tree(process: subprocess.Popen[bytes], descendants: Iterable[psutil.Process] = ()) -> None:
    """Send SIGKILL to a process and its remaining descendants (torchrun starts its ranks in their own sessions)."""
    for child in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()  # psutil compares the start time, so a reused pid is safe
    if process.poll() is None:
        process.kill()
    process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    """Return the children of a process, and theirs; none if it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
