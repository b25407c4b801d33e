"""Waiting in tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import psutil

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30) -> T:
    """Ask again and again until a condition holds.

    Args:
        condition: gives something true when it holds.
        what: what is waited for, for the error.
        seconds: deadline.

    Returns:
        What the condition gave.

    Raises:
        AssertionError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.01)
    return result


def wait_for_end(pids: Iterable[int], what: str, seconds: float = 30) -> None:
    """Wait for the end of processes that are not children of this one.

    Raises:
        AssertionError: one of them is still running.
    """
    wait_until(lambda: not any(map(_is_running, pids)), f"the end of {what}", seconds)


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # it has ended, and its new parent did not notice yet
    except psutil.NoSuchProcess:
        return False
