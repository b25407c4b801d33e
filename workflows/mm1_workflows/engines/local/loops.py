"""Loops on this machine: the items run side by side and share its cores, and a line shows how many are done.

Several small trainings with one core each do more work per core than one after the other with all cores. On a machine with
GPUs, heavy items run one after the other, each with all GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from mm1 import machine
from mm1.lineage.text import count, duration
from mm1_workflows.display.view import State, TaskView
from mm1_workflows.engines.local.state import Instance

ITEM_BYTES = 2 << 30
"""Memory that a heavy item may need on the CPU, for the number of them that run side by side."""


def cores_of_item(items: int, cores: int) -> int:
    """Return the number of cores of a heavy item of a loop.

    Args:
        items: number of items; 1 for a task that is not in a loop.
        cores: cores of all tasks.
    """
    if machine.num_gpus():
        return cores
    at_once = max(1, min(items, cores, machine.memory_bytes() // ITEM_BYTES))
    return cores // at_once


def free_cores(number: int, cores: int, instances: Iterable[Instance]) -> frozenset[int]:
    """Return the cores to bind a heavy task to; empty if it may use all, or if other tasks leave too few.

    Args:
        number: number of cores that it takes.
        cores: cores of all tasks.
        instances: all tasks.
    """
    if number >= cores:
        return frozenset()
    taken = {core for item in instances if item.state is State.RUNNING for core in item.cores}
    free = sorted(machine.affinity() - taken)
    return frozenset(free[:number]) if len(free) >= number else frozenset()


def views(group: Sequence[Instance]) -> list[TaskView]:
    """Return the views of a task: with a line for the whole loop first, if it has several items."""
    items = [item.view for item in group]
    return [_whole(group), *items] if len(group) > 1 else items


def _whole(group: Sequence[Instance]) -> TaskView:
    over = [item for item in group if item.state.over]
    failed = [item for item in group if item.state is State.FAILED]
    started = min((item.started for item in group if item.started), default=0.0)
    left = seconds_left(group)
    return TaskView(
        name=group[0].task.name,
        state=_state(group),
        seconds=max(item.started + item.seconds for item in group if item.started) - started if started else None,
        progress=(len(over), len(group)),
        message=f"{count(len(failed), 'item', len(group))} failed" if failed else "",
        figures=f"about {duration(left)} left" if left else "",
    )


def _state(group: Sequence[Instance]) -> State:
    states = {item.state for item in group}
    if not all(state.over for state in states):
        return State.WAITING if states == {State.WAITING} else State.RUNNING
    order = (State.FAILED, State.STOPPED, State.OMITTED, State.DONE, State.CACHED)
    return next(state for state in order if state in states)


def seconds_left(group: Sequence[Instance]) -> float | None:
    """Estimate the time until all items have ended, from those that are done; None as long as none is.

    Args:
        group: the items; those whose result was cached do not count.

    Returns:
        Seconds, if as many items run side by side as now.
    """
    done = [item.seconds for item in group if item.state is State.DONE]
    running = [item for item in group if item.state is State.RUNNING]
    ahead = [item for item in group if item.state in (State.WAITING, State.RETRYING)]
    if not done or not (running or ahead):
        return None
    mean = fmean(done)
    work = len(ahead) * mean + sum(max(mean - item.seconds, 0.0) for item in running)
    return work / max(1, len(running))
