"""What a person sees of a local run: a table, below it the figures of what trains."""

from __future__ import annotations

import io
import time
from pathlib import Path

from rich.console import Console

from mm1_components.ranks.train import FIGURES_FILE
from mm1_workflows.argo.graph import TaskNode, Template
from mm1_workflows.engines.local.display import PlainDisplay, view
from mm1_workflows.engines.local.process import read_figures
from mm1_workflows.engines.local.state import Instance, State

FIGURES = "loss 1.234, 9,120 tokens/s, 0:01:12 left, MFU 34.1%, gradient 0.53, 0.81 GB, 2 batches left out"


def instances() -> list[Instance]:
    task = TaskNode("pretrain", Template("pretrain", ("python",), (), ""), {})
    running = Instance(task, "pretrain", "pretrain", state=State.RUNNING, started=time.monotonic(), figures=FIGURES)
    running.progress = (120, 400)
    over = Instance(task, "text-base", "text-base", state=State.DONE, figures=FIGURES)
    return [over, running]


def test_figures_stand_below_the_table_while_a_task_runs() -> None:
    for width, end in ((80, "MFU 34.1%, grad"), (200, "2 batches left out")):
        console = Console(file=io.StringIO(), width=width)
        console.print(view(instances()))
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert [line.split()[:2] for line in lines[1:3]] == [["text-base", "done"], ["pretrain", "running"]]
        assert len(lines) == 4
        assert lines[3].startswith("pretrain: loss 1.234, 9,120 tokens/s, 0:01:12 left")
        assert end in lines[3]


def test_a_sign_of_life_tells_them_too() -> None:
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=200), heartbeat_s=0)
    for instance in instances():
        display.changed(instance)
    display.tick(instances())
    assert out.getvalue().splitlines()[-1].endswith(f"120/400: {FIGURES}")


def test_figures_are_read_where_a_step_leaves_them(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == ""
    (tmp_path / FIGURES_FILE).write_text(FIGURES)
    assert read_figures(tmp_path) == FIGURES
