"""Argo's flat map of nodes as tasks: order, attempts, loops, exit, what has not been reached, names of pods."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime

import pytest

from mm1.errors import ConfigurationError
from mm1_workflows.cli.commands.retry import again
from mm1_workflows.cli.since import parse_since
from mm1_workflows.cluster.following.nodes import nodes_of, pod_name, tasks_of
from tests.support.argo_objects import RUN, pod_node, retry_node, workflow


def test_tasks_come_in_the_order_of_the_file_with_those_not_reached_and_the_exit_last() -> None:
    nodes = [
        pod_node("report", "Running", parent=f"{RUN}.onExit"),
        *retry_node("b", [pod_node("b", "Failed", code=84), pod_node("b", "Running", progress="3/20", host="node-2")]),
        pod_node("a"),
    ]
    tasks = tasks_of(workflow(nodes, tasks=("a", "b", "c")))
    assert [(task.name, task.phase) for task in tasks] == [
        ("a", "Succeeded"), ("b", "Running"), ("c", "Waiting"), ("report", "Running"),
    ]  # fmt: skip
    assert tasks[1].progress == (3, 20) and tasks[1].host == "node-2" and len(tasks[1].attempts) == 2
    assert tasks[0].progress is None, "0/1 is what Argo gives every pod"
    assert [task.at_exit for task in tasks] == [False, False, False, True]


def test_what_follows_a_task_is_not_its_attempt() -> None:
    after = pod_node("next", "Running")
    tasks = tasks_of(workflow([*retry_node("a", [pod_node("a")], after=after["id"]), after], tasks=("a", "next")))
    assert [(task.name, len(task.attempts)) for task in tasks] == [("a", 1), ("next", 1)]


def test_items_of_a_loop_are_tasks_in_their_order() -> None:
    nodes = [pod_node(f"fan({number}:item-{number})") for number in (10, 2, 0)]
    assert [task.name for task in tasks_of(workflow(nodes, tasks=("fan",)))] == [
        "fan(0:item-0)",
        "fan(2:item-2)",
        "fan(10:item-10)",
    ]


def test_a_finished_run_waits_for_nothing() -> None:
    assert [task.name for task in tasks_of(workflow([pod_node("a", "Failed")], "Failed", tasks=("a", "b")))] == ["a"]


def test_a_large_map_of_nodes_is_unpacked() -> None:
    small = workflow([pod_node("a")])
    nodes = small["status"].pop("nodes")
    small["status"]["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    assert nodes_of(small) == nodes
    offloaded = workflow([])
    offloaded["status"] = {"phase": "Running", "offloadNodeStatusVersion": "fnv:1"}
    with pytest.raises(ConfigurationError, match="--server"):
        nodes_of(offloaded)


def test_pods_are_named_as_argo_names_them() -> None:
    """Seen on Argo 4.0.7: run, template, and the number of the node's id."""
    node = pod_node("a", template="step-ingest") | {"id": f"{RUN}-2869337434"}
    assert pod_name(node, workflow([])) == f"{RUN}-step-ingest-2869337434"
    alone = pod_node("a") | {"name": RUN, "id": RUN}
    assert pod_name(alone, workflow([])) == RUN


def test_a_run_is_repeated_as_a_new_one() -> None:
    old = workflow([pod_node("a", "Failed", code=84)], "Failed", shutdown="Stop")
    old["metadata"] |= {
        "labels": {"app.kubernetes.io/part-of": "mm1", "workflows.argoproj.io/completed": "true"},
        "annotations": {"mm1.dev/idempotency-key": "nightly"},
    }
    new = again(old)
    assert new["metadata"]["generateName"] == "mm1-x-" and "name" not in new["metadata"] and "status" not in new
    assert new["metadata"]["labels"] == {"app.kubernetes.io/part-of": "mm1"}
    assert new["metadata"]["annotations"] == {"mm1.dev/retry-of": RUN}
    assert "shutdown" not in new["spec"] and new["spec"]["templates"] == old["spec"]["templates"]


@pytest.mark.parametrize(("phase", "words"), [("Running", "mm1 stop"), ("Succeeded", "nothing to retry")])
def test_what_runs_or_went_well_is_not_repeated(phase: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        again(workflow([], phase))


def test_since_is_a_time_back_or_a_date() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert parse_since("90m", now) == datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
    assert parse_since("7d", now) == datetime(2026, 11, 17, 12, tzinfo=UTC)
    assert parse_since("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_since("") is None
    assert parse_since("0m", now) == now


@pytest.mark.parametrize(
    "text", ["yesterday", "²d", "٣d", "99999999999999d", "999999999d", "-1d", "d", "7", " 7d", "2026-13-01"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="12h"):
        parse_since(text)
