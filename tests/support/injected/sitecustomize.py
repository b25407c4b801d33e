"""Lets the ranks of a training run fail on request: Python imports this file at its start when its folder is on PYTHONPATH.

``MM1_TEST_OUTCOME`` names an outcome class; the rank then raises its error in the place of building the run, and before that
it takes ``MM1_TEST_EAT_MIB`` MiB of memory. ``MM1_TEST_ROOM_MIB`` leaves a rank so many MiB of address space beside what it has
when it begins to build the run. ``MM1_TEST_DIVERGE_AT`` lets it diverge at the global batch of that number, and
``MM1_TEST_LATE`` (rank:step:seconds) lets a rank sleep before a step. ``MM1_TEST_SLOW_STORE_S`` makes rank 0 wait before it
stores or verifies a file of weights. ``MM1_TEST_FORKS`` lets a rank print at each fork
whether there is a process group. Nothing of the project knows of it.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm1.train.progress import Progress

SLOW_BYTES = 100_000
"""Smallest file that a slow store reads slowly."""


class _Failing(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if eaten := int(os.environ.get("MM1_TEST_EAT_MIB", "0")):
            _ = b"x" * (eaten << 20)
        from mm1.errors import BY_OUTCOME, Outcome

        raise BY_OUTCOME[Outcome(int(os.environ["MM1_TEST_OUTCOME"]))]("told to fail")


def _limit(room_mib: int) -> None:
    """Limit the address space; what a rank imports anyway does not count."""
    import mm1.train.build  # noqa: F401

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    room = room_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))


def _before_steps(act: Callable[[Progress], None]) -> None:
    """Call a function before each step of the loop."""
    from mm1.train.loop import Loop

    build = Loop.__init__

    def init(self: Loop, *arguments: Any, rate_factor: Callable[[Progress], float], **named: Any) -> None:
        def factor(progress: Progress) -> float:
            act(progress)
            return rate_factor(progress)

        build(self, *arguments, rate_factor=factor, **named)

    Loop.__init__ = init  # type: ignore[method-assign]


def _diverge(progress: Progress) -> None:
    from mm1.errors import DivergedError

    if progress.batch == int(os.environ["MM1_TEST_DIVERGE_AT"]):
        raise DivergedError("the loss is nan")


def _come_late(progress: Progress) -> None:
    rank, step, seconds = map(int, os.environ["MM1_TEST_LATE"].split(":"))
    if (rank, step) == (int(os.environ["RANK"]), progress.step):
        time.sleep(seconds)


def _slow_store(seconds: float) -> None:
    from mm1.checkpoint import resume
    from mm1.store.local import LocalStore

    take, digest = LocalStore.take_blob, resume.digest_of_file

    def slow_take(self: LocalStore, path: Path, ref: Any) -> Any:
        if path.name == "model.safetensors":
            time.sleep(seconds)
        return take(self, path, ref)

    def slow_digest(path: Path) -> Any:
        if path.stat().st_size > SLOW_BYTES:
            time.sleep(seconds)
        return digest(path)

    LocalStore.take_blob, resume.digest_of_file = slow_take, slow_digest  # type: ignore[method-assign]


def _print_fork() -> None:
    from torch import distributed

    print("fork with a process group" if distributed.is_initialized() else "fork alone", flush=True)


if "mm1.train" in sys.orig_argv and "torch.distributed.run" not in sys.orig_argv:
    if os.environ.get("MM1_TEST_ROOM_MIB"):
        _limit(int(os.environ["MM1_TEST_ROOM_MIB"]))
    if os.environ.get("MM1_TEST_DIVERGE_AT"):
        _before_steps(_diverge)
    if os.environ.get("MM1_TEST_LATE"):
        _before_steps(_come_late)
    if os.environ.get("MM1_TEST_SLOW_STORE_S") and os.environ["RANK"] == "0":
        _slow_store(float(os.environ["MM1_TEST_SLOW_STORE_S"]))
    if os.environ.get("MM1_TEST_FORKS"):
        os.register_at_fork(before=_print_fork)
    if os.environ.get("MM1_TEST_OUTCOME"):
        sys.modules["mm1.train.build"] = _Failing("mm1.train.build")
