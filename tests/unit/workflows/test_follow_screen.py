"""What a person sees of a run on a cluster: a table on a terminal, one line per change elsewhere, logs as they are."""

from __future__ import annotations

import io

from rich.console import Console

from mm1_workflows.cluster.following.nodes import tasks_of
from mm1_workflows.cluster.following.show import LiveDisplay, PlainDisplay
from tests.support.argo_objects import pod_node, retry_node, workflow

BACK_OFF = "ImagePullBackOff: Back-off pulling image"


def plain() -> tuple[PlainDisplay, io.StringIO]:
    out = io.StringIO()
    return PlainDisplay(Console(file=out, width=200)), out


def test_each_change_is_told_once() -> None:
    display, out = plain()
    for phase, message in [
        ("Pending", ""),
        ("Pending", "Unschedulable: no room"),
        ("Running", ""),
        ("Running", ""),
        ("Failed", "x"),
    ]:
        display.update(tasks_of(workflow([pod_node("a", phase, message=message)], tasks=("a", "b"))))
    said = [line.split("  ", 2)[2].strip() for line in out.getvalue().splitlines()]
    assert said[:3] == ["pending", "pending: Unschedulable: no room", "running on node-1"]
    assert len(said) == 4 and said[3].startswith("failed after") and said[3].endswith(": x")


def test_trying_to_get_an_image_again_and_again_is_one_change() -> None:
    display, out = plain()
    for message in ("ErrImagePull: no such host", BACK_OFF, "ErrImagePull: no such host", BACK_OFF):
        display.update(tasks_of(workflow([pod_node("a", "Pending", message=message)])))
    assert len(out.getvalue().splitlines()) == 1


def test_a_log_line_is_shown_as_it_is() -> None:
    display, out = plain()
    display.line(("pretrain:1", "loss [bold]2.5[/bold] :warning: {x}" + " long" * 100))
    assert out.getvalue() == "[pretrain:1] loss [bold]2.5[/bold] :warning: {x}" + " long" * 100 + "\n"


def test_the_table_shows_what_matters_and_counts_the_rest() -> None:
    out = io.StringIO()
    display = LiveDisplay(Console(file=out, width=160, height=12, force_terminal=True, color_system=None))
    done = [pod_node(f"fan({number}:x)") for number in range(40)]
    slow = retry_node("train", [pod_node("train", "Failed", code=84), pod_node("train", "Running", progress="30/100")])
    display.update(tasks_of(workflow([*done, *slow], tasks=("fan", "train", "later"))))
    display.line(("train", "step 30"))
    display.close()
    shown = out.getvalue()
    assert "[train] step 30" in shown and "40 succeeded, 1 waiting" in shown
    row = next(line for line in shown.splitlines() if line.startswith("train "))
    assert "running" in row and "node-1" in row and "━" in row and " 2 " in row
