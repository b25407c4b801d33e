"""This process and its machine: cores, memory, GPUs, and exiting with the parent process. Torch-free.

Inside a container, the limits of its cgroup (version 2, then 1) apply instead of the node's resources.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
IMPORTED = time.time()
PR_SET_PDEATHSIG = 1
STARTER_VARIABLE = "MM1_STARTER_PID"
"""Environment variable with the process ID of a launcher's parent, for :func:`die_with_launcher`; not configuration."""
PARENT_CHECK_S = 1.0
UNLIMITED_BYTES = 1 << 60
"""Values of a cgroup v1 memory limit from here on mean "no limit"."""


def affinity() -> AbstractSet[int]:
    """Return the CPU cores that this process may be scheduled on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """Return the number of cores available to this process: its CPU affinity or the container's quota, whichever is less."""
    allowed = len(affinity())
    quota_us, period_us = _cpu_quota()
    return min(allowed, max(1, quota_us // period_us)) if quota_us > 0 < period_us else allowed


def memory_bytes() -> int:
    """Return the memory available to this process: the machine's memory or the container's limit, whichever is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(name)
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            return min(total, int(text))
    return total


def process_started() -> float:
    """Return the start time of this process, s since 1970; without /proc, the time when this module was imported."""
    stat = Path("/proc/self/stat")
    if not stat.is_file():
        return IMPORTED
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22; the name in parentheses may have blanks
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def num_gpus() -> int:
    """Return the number of NVIDIA GPUs visible to this process, without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def oom_kills() -> int:
    """Return the number of processes in this container killed by the kernel's OOM killer; 0 if not reported."""
    for name in ("memory.events", "memory/memory.oom_control"):
        fields = _read(name).split()
        if "oom_kill" in fields:
            return int(fields[fields.index("oom_kill") + 1])
    return 0


THREAD_SETTINGS = {
    # Waiting threads spin for a tenth of a millisecond, then sleep. Without a limit, a busy process next to two spinning
    # threads on two cores makes a step thirty times slower; without spinning, a step is 5 % slower.
    "GOMP_SPINCOUNT": "5000",
}
"""Environment variables of OpenMP, which must be set before torch is imported."""


def thread_settings() -> dict[str, str]:
    """Return the environment of a process that computes: :data:`THREAD_SETTINGS`, and one thread for each of its cores.

    Variables that are set already keep their values.
    """
    settings = THREAD_SETTINGS | {"OMP_NUM_THREADS": str(cores())}
    return settings | {name: os.environ[name] for name in settings if os.environ.get(name)}


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded at import time, because nothing can be loaded safely between fork and exec."""


def die_with_parent(number: int = signal.SIGKILL, parent: int = 0) -> None:
    """Have the kernel signal this process when its parent exits for any reason (Linux only; a no-op elsewhere).

    Safe between fork and exec. "Parent" means the *thread* that started this process.

    Args:
        number: the signal.
        parent: process ID of the parent, taken before the fork. If it is gone already, this process exits at once.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number)
        if parent and os.getppid() != parent:
            os._exit(1)


def die_with_launcher(starter: int) -> None:
    """Exit with the parent, a launcher such as torchrun that does not pass on its process ID.

    The launcher may be gone before this process can ask the kernel for a signal. Its parent tells: that of the process which
    adopted this one is another.

    Args:
        starter: process ID of the launcher's parent.
    """
    die_with_parent()
    if _libc is not None and _parent_of(os.getppid()) != starter:
        os._exit(1)


def _parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if it has none or is gone."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])  # "pid (name) state parent"; the name may contain spaces


def exit_with_parent(parent: int) -> None:
    """Exit when the parent process is gone, on any system and regardless of which thread started this process.

    Args:
        parent: process ID of the parent, taken before the fork.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="exit with parent").start()


def _cpu_quota() -> tuple[int, int]:
    """Return the CPU time available to the container per period, both in µs; zeros if unlimited."""
    fields = _read("cpu.max").split() or [_read("cpu/cpu.cfs_quota_us"), _read("cpu/cpu.cfs_period_us")]
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(field.isdigit() for field in fields) else (0, 0)


def _read(name: str) -> str:
    path = CGROUP / name
    return path.read_text().strip() if path.is_file() else ""
