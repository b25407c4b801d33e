"""Faults for a running pipeline: one of its processes is killed, or its store goes away for a while."""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict

import psutil

from tests.support.flaky_proxy import FlakyProxy

STORE = "store"
SUPERVISOR = "supervisor"
"""The runner that starts the steps."""
TARGETS = (STORE, SUPERVISOR, "step", "trainer", "rank")
AWAY_S = (1.0, 15.0)
"""Shortest and longest time without the store."""


def role_of(command: list[str]) -> str:
    """Return the role of a process by its command line: rank, trainer (torchrun) or step; empty for any other."""
    text = " ".join(command)
    if "torch.distributed.run" in text:
        return "trainer"
    if "-m mm1.train" in text:
        return "rank"
    return "step" if "-m mm1_components." in text else ""


def running(supervisor: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Return the processes of a pipeline by role."""
    processes: dict[str, list[psutil.Process]] = defaultdict(list)
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in supervisor.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if role := role_of(process.cmdline()):
                    processes[role].append(process)
        processes[SUPERVISOR].append(supervisor)
    return processes


def provoke(target: str, supervisor: psutil.Process, proxy: FlakyProxy, chance: random.Random) -> bool:
    """Provoke a fault, and wait until it is over.

    Args:
        target: the store, or the role of a process.
        supervisor: runner of the pipeline.
        proxy: in front of the store.
        chance: chooses the process, and how long the store is away.

    Returns:
        Whether there was something to provoke it on.
    """
    if target == STORE:
        proxy.go_away(chance.uniform(*AWAY_S))
        return True
    if not (processes := running(supervisor)[target]):
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(processes).kill()
        return True
    return False
