"""Loops of the local runner: cores of the items, the line for the whole loop, and the time left."""

from __future__ import annotations

import time

import pytest

from mm1 import machine
from mm1.errors import Ending, Outcome
from mm1_workflows.argo.graph import Graph, TaskNode, Template
from mm1_workflows.cli.commands.run import Command, _summary
from mm1_workflows.display.view import State
from mm1_workflows.engines.local.loops import cores_of_item, free_cores, seconds_left, views
from mm1_workflows.engines.local.runner import RunResult
from mm1_workflows.engines.local.state import Instance

TASK = TaskNode("train", Template("train", ("python",), (), ""), {})


def item(state: State, seconds: float = 0.0, cores: frozenset[int] = frozenset()) -> Instance:
    now = time.monotonic()
    made = Instance(TASK, "train-0", "train(0:x)", "x", state, started=now - seconds if seconds else 0.0, cores=cores)
    made.ended = now if state.over else 0.0
    return made


@pytest.mark.parametrize(
    ("items", "cores", "each"), [(1, 2, 2), (2, 2, 1), (51, 2, 1), (3, 8, 2), (2, 8, 4), (1, 1, 1), (9, 1, 1)]
)
def test_items_share_the_cores(items: int, cores: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "num_gpus", lambda: 0)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 40)
    assert cores_of_item(items, cores) == each


def test_memory_limits_the_items_side_by_side_and_gpus_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "num_gpus", lambda: 0)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 << 30)
    assert cores_of_item(51, 16) == 8
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 30)
    assert cores_of_item(51, 16) == 16
    monkeypatch.setattr(machine, "num_gpus", lambda: 8)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 40)
    assert cores_of_item(51, 16) == 16


def test_running_items_have_different_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affinity", lambda: {4, 5, 6})
    running = item(State.RUNNING, 1.0, frozenset({4}))
    assert free_cores(1, 3, [running]) == {5}
    assert free_cores(2, 3, [running]) == {5, 6}
    assert free_cores(3, 3, []) == frozenset(), "a task with all cores is not bound"
    assert free_cores(1, 4, [running, item(State.RUNNING, 1.0, frozenset({5, 6}))]) == frozenset(), "more tasks than cores"
    assert free_cores(1, 3, [item(State.DONE, 1.0, frozenset({4}))]) == {4}


def test_the_time_left_follows_from_finished_items() -> None:
    ahead = [item(State.WAITING) for _ in range(4)]
    assert seconds_left([item(State.RUNNING, 5.0), *ahead]) is None, "nothing is known before the first one ends"
    assert seconds_left([item(State.CACHED, 1.0), *ahead]) is None
    running = [item(State.RUNNING, 20.0), item(State.RUNNING, 80.0)]
    left = seconds_left([item(State.DONE, 100.0), item(State.DONE, 60.0), *running, *ahead])
    assert left == pytest.approx((4 * 80 + 60 + 0) / 2, abs=0.1)
    assert seconds_left([item(State.DONE, 100.0)]) is None


def test_the_last_lines_name_failed_items_and_those_without_a_result() -> None:
    group = [item(State.DONE, 1.0), item(State.FAILED, 1.0), item(State.FAILED, 1.0)]
    for number, each in enumerate(group):
        each.label, each.key = f"train({number}:x)", f"train-{number}"
        each.ending = Ending(outcome=Outcome.DATA, message=f"shard {number} is damaged")
    group[0].outputs = {"manifest": "", "failure": "diverged: loss is NaN"}
    graph = Graph("mm1-ablate", {}, {"train": TASK})
    command = Command(file="workflows/ablate.py")
    text = _summary(RunResult(group, "Failed", 81, group[1]), command, "a", graph, 60.0)
    assert "step  train(1:x) (data, exit code 81)" in text and "also  train(2:x): data: shard 2 is damaged" in text
    assert "mm1 run workflows/ablate.py --run a" in text
    text = _summary(RunResult(group[:1], "Succeeded", 0), command, "a", graph, 60.0)
    assert "train  items=1" in text and "without a result: train(0:x): diverged: loss is NaN" in text


def test_a_loop_has_a_line_with_its_progress() -> None:
    group = [item(State.DONE, 100.0), item(State.RUNNING, 40.0), item(State.WAITING)]
    whole, *items = views(group)
    assert (whole.name, whole.state, whole.progress, len(items)) == ("train", State.RUNNING, (1, 3), 3)
    assert "1/3: about 2 min 4" in whole.heartbeat
    assert len(views(group[:1])) == 1, "a single item is its own line"
    group[1].state, group[1].ending = State.FAILED, Ending(outcome=Outcome.DIVERGED, message="loss is NaN")
    assert views(group)[0].message == "1 of 3 items failed"
    assert views([item(State.DONE, 1.0), item(State.CACHED, 1.0)])[0].state is State.DONE
    assert views([item(State.DONE, 1.0), item(State.FAILED, 1.0)])[0].state is State.FAILED
