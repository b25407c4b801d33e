"""What a person sees of a run, here or on a cluster: a table on a terminal, one line per change elsewhere, logs as they are."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from mm1.errors import Ending, Outcome
from mm1_components.ranks.train import FIGURES_FILE
from mm1_workflows.argo.graph import TaskNode, Template
from mm1_workflows.cluster.following.view import views_of
from mm1_workflows.display.screen import LiveDisplay, LogDisplay, PlainDisplay, screen
from mm1_workflows.display.table import fitting, task_table
from mm1_workflows.display.view import State, TaskView
from mm1_workflows.engines.local.process import read_figures
from mm1_workflows.engines.local.state import Instance
from tests.support.argo_objects import pod_node, retry_node, workflow

FIGURES = "loss 1.234, 9,120 tokens/s, 0:01:12 left, MFU 34.1%, gradient 0.53, 0.81 GB, 2 batches skipped"
TASK = TaskNode("pretrain", Template("pretrain", ("python",), (), ""), {})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Printed(PlainDisplay):
    """A plain display on a pipe, its lines without the time of day, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.out, self.hand = io.StringIO(), Clock()
        super().__init__(Console(file=self.out, width=80), clock=self.hand)

    @property
    def lines(self) -> list[str]:
        return [line.split("  ", 1)[1] for line in self.out.getvalue().splitlines()]


def a(state: State, **more: object) -> TaskView:
    return TaskView(name="a", state=state, **more)  # type: ignore[arg-type]


# -- lines ------------------------------------------------------------------------------------------------------------


def test_each_change_is_one_line() -> None:
    display = Printed()
    for view in (
        a(State.WAITING),
        a(State.WAITING, message="Unschedulable: no room"),
        a(State.RUNNING, attempts=1, host="node-1", seconds=0.0),
        a(State.RUNNING, attempts=1, host="node-1", seconds=1.0, progress=(1, 9)),
        a(State.RETRYING, attempts=1, host="node-1", seconds=2.0, message="network: connection lost"),
        a(State.RUNNING, attempts=2, host="node-2", seconds=3.0),
        a(State.FAILED, attempts=2, host="node-2", seconds=75.0, message="data: shard 3\n is torn"),
        a(State.FAILED, attempts=2, host="node-2", seconds=75.0, message="data: shard 3\n is torn"),
    ):
        display.update([view])
    assert display.lines == [
        "a                 waiting: Unschedulable: no room",
        "a                 running on node-1",
        "a                 retrying after attempt 1: network: connection lost",
        "a                 running (attempt 2) on node-2",
        "a                 failed (attempt 2) after 1 min 15 s: data: shard 3 is torn",
    ]


def test_every_ten_seconds_a_sign_of_life() -> None:
    display = Printed()
    trains = TaskView(name="pretrain", state=State.RUNNING, seconds=0.0, attempts=1)
    waits = TaskView(name="gate", state=State.WAITING, seconds=0.0, message="Unschedulable: no room", host="")
    later = TaskView(name="report", state=State.WAITING)
    for second in range(25):
        display.hand.now = float(second)
        moving = {"seconds": float(second)}
        display.update(
            [
                TaskView(**vars(trains) | moving | {"progress": (second, 400), "figures": FIGURES}),
                TaskView(**vars(waits) | moving),
                later,
            ]
        )
    assert display.lines == [
        "pretrain          running",
        "gate              waiting: Unschedulable: no room",
        f"pretrain          running for 10 s, 10/400: {FIGURES}",
        "gate              waiting for 10 s: Unschedulable: no room",
        f"pretrain          running for 20 s, 20/400: {FIGURES}",
        "gate              waiting for 20 s: Unschedulable: no room",
    ]


def test_tasks_of_one_name_are_told_apart() -> None:
    display = Printed()
    for seconds in (1.0, 2.0, 3.0):
        display.update([a(State.DONE, seconds=9.0), a(State.RUNNING, seconds=seconds)])
    assert display.lines == ["a                 done after 9.0 s", "a                 running"]


def test_a_log_line_is_shown_as_it_is() -> None:
    out = io.StringIO()
    LogDisplay(Console(file=out, width=80)).log("pretrain:1", "loss [bold]2.5[/bold] :warning: {x}" + " long" * 100)
    assert out.getvalue() == "[pretrain:1] loss [bold]2.5[/bold] :warning: {x}" + " long" * 100 + "\n"


# -- table ------------------------------------------------------------------------------------------------------------


def drawn(views: Sequence[TaskView], *, width: int = 160, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(screen(views, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_figures_stand_below_the_table_while_a_task_runs() -> None:
    views = [
        TaskView(name="text-base", state=State.DONE, seconds=3.0, figures=FIGURES),
        TaskView(name="pretrain", state=State.RUNNING, seconds=3.0, progress=(120, 400), figures=FIGURES),
    ]
    for width, end in ((80, "MFU 34.1%, grad"), (200, "2 batches skipped")):
        lines = drawn(views, width=width)
        assert [line.split()[:2] for line in lines[1:3]] == [["text-base", "done"], ["pretrain", "running"]]
        assert len(lines) == 4 and "━" in lines[2]
        assert lines[3].startswith("pretrain: loss 1.234, 9,120 tokens/s, 0:01:12 left")
        assert end in lines[3]


def test_columns_without_any_value_are_left_out() -> None:
    plain, failed = a(State.DONE, seconds=2.0, attempts=1), a(State.FAILED, attempts=2, message="data: x")
    assert drawn([plain])[0].split() == ["task", "state", "time"]
    assert drawn([plain, failed])[0].split() == ["task", "state", "time", "attempts", "message"]


def test_what_is_over_and_went_well_is_counted_when_there_are_too_many_rows() -> None:
    many = [TaskView(name=f"fan({n})", state=State.DONE) for n in range(40)]
    views = [*many, a(State.RUNNING), TaskView(name="b", state=State.FAILED), TaskView(name="c", state=State.WAITING)]
    assert [view.name for view in fitting(views, 8)] == ["a", "b", "c"]
    assert fitting(views, 99) == views
    assert drawn(views, height=14)[-1].strip() == "40 done"
    waiting = [TaskView(name=f"w{n}", state=State.WAITING) for n in range(9)]
    assert [view.name for view in fitting([*views, *waiting], 8)] == ["a", "b"]
    assert drawn([*views, *waiting], height=14)[-1].strip() == "40 done, 10 waiting"


@pytest.mark.parametrize("height", [10, 24, 60])
def test_the_screen_is_never_higher_than_the_terminal(height: int) -> None:
    views = [TaskView(name=f"t{n}", state=State.RUNNING, seconds=1.0, figures="loss 1" if n < 3 else "") for n in range(80)]
    assert len(drawn(views, height=height)) <= height


def test_a_long_message_gives_way_to_the_rest_of_its_row() -> None:
    view = TaskView(name="fan(12:shard-000012)", state=State.FAILED, seconds=9.0, host="gpu-node-7", message="torn " * 99)
    _, row = drawn([view], width=80)
    assert row.startswith("fan(12:shard-000012)   failed   9.0 s   gpu-node-7   torn torn") and row.endswith("…")


def test_a_table_that_is_looked_up_cuts_nothing() -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(task_table([a(State.FAILED, message="data: " + "torn " * 40)]))
    assert console.file.getvalue().count("torn") == 40  # type: ignore[attr-defined]


def test_logs_run_above_the_live_table() -> None:
    out = io.StringIO()
    display = LiveDisplay(Console(file=out, width=160, height=12, force_terminal=True, color_system=None))
    done = [pod_node(f"fan({number}:x)") for number in range(40)]
    slow = retry_node("train", [pod_node("train", "Failed", code=84), pod_node("train", "Running", progress="30/100")])
    display.update(views_of(workflow([*done, *slow], tasks=("fan", "train", "later"))))
    display.log("train", "step 30")
    display.close()
    text = out.getvalue()
    assert "[train] step 30" in text and "40 done" in text
    row = next(line for line in text.splitlines() if line.startswith("train "))
    assert "running" in row and "node-1" in row and "━" in row and " 2 " in row


# -- the same words for both ------------------------------------------------------------------------------------------

LOCAL = {
    State.RETRYING: Instance(TASK, "a", "a", state=State.RETRYING, attempts=1, started=1.0),
    State.FAILED: Instance(TASK, "a", "a", state=State.FAILED, attempts=1, started=1.0, ended=61.0),
    State.DONE: Instance(TASK, "a", "a", state=State.DONE, attempts=1, started=1.0, ended=61.0),
    State.WAITING: Instance(TASK, "a", "a"),
    State.OMITTED: Instance(TASK, "a", "a", state=State.OMITTED),
}
BACKING_OFF, LOST = retry_node("a", [pod_node("a", "Failed", code=84, message="lost")])
CLUSTER = {
    State.RETRYING: [BACKING_OFF | {"phase": "Running"}, LOST],
    State.FAILED: [pod_node("a", "Failed", code=84, message="lost")],
    State.DONE: [pod_node("a")],
    State.WAITING: [],
    State.OMITTED: [pod_node("a", "Omitted") | {"type": "Skipped"}],
}


@pytest.mark.parametrize("state", LOCAL)
def test_a_local_run_and_a_cluster_run_look_alike(state: State) -> None:
    instance = LOCAL[state]
    if state in (State.RETRYING, State.FAILED):
        instance.ending = Ending(outcome=Outcome.NETWORK, message="lost")
    (there,) = views_of(workflow(CLUSTER[state], tasks=("a",)))
    here = instance.view
    assert here.state is there.state is state
    assert here.headline == there.headline


def test_tasks_of_a_run_that_is_shut_down_are_stopped_unless_they_failed_before() -> None:
    nodes = [
        pod_node("a", "Failed", code=84, message="connection lost"),
        pod_node("b", "Failed", code=143, message="workflow shutdown with strategy: Stop"),
        pod_node("c", "Failed", message="workflow shutdown with strategy: Stop"),
    ]
    views = views_of(workflow(nodes, "Failed", tasks=("a", "b", "c"), shutdown="Stop"))
    assert [view.state for view in views] == [State.FAILED, State.STOPPED, State.STOPPED]
    assert [view.message for view in views] == ["network: connection lost", "", ""]


def test_a_pod_that_waits_is_a_waiting_task_with_its_reason() -> None:
    (view,) = views_of(workflow([pod_node("a", "Pending", message="Unschedulable: no room")]))
    assert (view.state, view.message) == (State.WAITING, "Unschedulable: no room")
    assert view.seconds is not None, "its pod exists"


def test_figures_are_read_where_a_step_leaves_them(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == ""
    (tmp_path / FIGURES_FILE).write_text(f"{FIGURES}\n")
    assert read_figures(tmp_path) == FIGURES
    running = Instance(TASK, "a", "a", state=State.RUNNING, started=time.monotonic(), figures=FIGURES)
    assert running.view.figures == FIGURES
    running.state = State.DONE
    assert running.view.figures == ""


def test_the_name_of_a_loops_item_has_a_short_digest() -> None:
    digest = "0123456789ab" + "c" * 52
    view = TaskView(name=f"filter(0:s3://bucket/mm1/manifests/{digest}.json)", state=State.RUNNING, seconds=1.0)
    display = Printed()
    display.update([view])
    assert display.lines == ["filter(0:0123456789ab)  running"]
    console = Console(width=60, file=io.StringIO(), record=True)
    console.print(task_table([view]))
    assert "filter(0:0123456789ab)   running" in console.export_text()
