"""This process and its machine: cores, memory, GPUs, and an end together with the parent process. Torch-free.

Inside a container the limits of its cgroup count (version 2, then 1), not what the node has.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PR_SET_PDEATHSIG = 1
PARENT_CHECK_S = 1.0
UNLIMITED_BYTES = 1 << 60
"""A memory limit of cgroup v1 from here on means that there is none."""


def affinity() -> AbstractSet[int]:
    """Cores that the system lets this process run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """Cores that this process may use: its affinity, or the container's quota where that is less."""
    allowed = len(affinity())
    quota_us, period_us = _cpu_quota()
    return min(allowed, max(1, quota_us // period_us)) if quota_us > 0 < period_us else allowed


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the container's limit where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(name)
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            return min(total, int(text))
    return total


def num_gpus() -> int:
    """NVIDIA GPUs that this process sees, without loading torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def oom_kills() -> int:
    """Processes of this container that the kernel has killed because memory ran out; 0 where it does not say."""
    for name in ("memory.events", "memory/memory.oom_control"):
        fields = _read(name).split()
        if "oom_kill" in fields:
            return int(fields[fields.index("oom_kill") + 1])
    return 0


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded here: between fork and exec nothing may be loaded."""


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel send a signal to this process when its parent ends, however it ends (Linux; elsewhere nothing happens).

    Safe between fork and exec. The parent is the *thread* that started this process.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number)


def exit_with_parent(parent: int) -> None:
    """Exit when the parent process is gone, on any system and whichever thread started this process.

    Args:
        parent: process ID of the parent, taken before the fork.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="exit with parent").start()


def _cpu_quota() -> tuple[int, int]:
    """CPU time that the container may use per period, both in µs; zeros without a limit."""
    fields = _read("cpu.max").split() or [_read("cpu/cpu.cfs_quota_us"), _read("cpu/cpu.cfs_period_us")]
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(field.isdigit() for field in fields) else (0, 0)


def _read(name: str) -> str:
    path = CGROUP / name
    return path.read_text().strip() if path.is_file() else ""
