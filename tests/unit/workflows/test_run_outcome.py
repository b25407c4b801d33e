"""From a workflow object to the exit code of the command line: one table."""

from __future__ import annotations

from typing import Any

import pytest

from mm1.errors import Ending, Outcome
from mm1_workflows.cluster.following.follow import farewell
from mm1_workflows.cluster.following.nodes import refusing, tasks_of
from mm1_workflows.cluster.following.outcome import ending_of
from tests.support.argo_objects import RUN, pod_node, retry_node, workflow

EXIT = f"{RUN}.onExit"


def failed(**node: Any) -> dict[str, Any]:
    """A run that failed at one pod."""
    return workflow([pod_node("train", node.pop("phase", "Failed"), **node)], "Failed")


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome])
def test_each_class_comes_through_as_the_exit_code_of_the_pod(outcome: Outcome) -> None:
    ended = ending_of(failed(code=int(outcome), message=f"main: Error (exit code {int(outcome)})"))
    assert ended and ended.outcome is outcome and ended.where == "train"


@pytest.mark.parametrize(
    ("node", "outcome"),
    [
        ({"code": 137, "message": "main: OOMKilled (exit code 137)"}, Outcome.OUT_OF_MEMORY),
        ({"message": "OOMKilled"}, Outcome.OUT_OF_MEMORY),
        ({"code": 137, "message": "main: Error (exit code 137)"}, Outcome.NETWORK),
        ({"code": 143, "message": "main: Error (exit code 143)"}, Outcome.NETWORK),
        ({"phase": "Error", "message": "pod deleted"}, Outcome.NETWORK),
        ({"phase": "Error", "code": 64, "message": "wait: Error (exit code 64): cannot reach the store"}, Outcome.NETWORK),
        ({"message": "The node was low on resource: memory."}, Outcome.NETWORK),
        (
            {"phase": "Error", "message": 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'},
            Outcome.CONFIGURATION,
        ),
        ({"phase": "Error", "message": "ImagePullBackOff: Back-off pulling image"}, Outcome.CONFIGURATION),
        (
            {"phase": "Error", "message": "Pod failed before main container starts due to InvalidImageName: x"},
            Outcome.CONFIGURATION,
        ),
        ({"phase": "Error", "message": "CreateContainerConfigError: secret not found"}, Outcome.CONFIGURATION),
        ({"phase": "Error", "message": "ImageInspectError: Failed to inspect image"}, Outcome.CONFIGURATION),
        ({"code": 128, "message": "main: StartError (exit code 128): no such file"}, Outcome.CONFIGURATION),
        ({"message": "Step exceeded its deadline"}, Outcome.UNHANDLED),
        ({"code": 87, "message": "Pod was active on the node longer than the specified deadline"}, Outcome.PREEMPTED),
        ({"code": 137, "message": "Pod was active on the node longer than the specified deadline"}, Outcome.UNHANDLED),
        ({"code": 1, "message": "main: Error (exit code 1)"}, Outcome.UNHANDLED),
        ({"code": 127, "message": "main: Error (exit code 127)"}, Outcome.UNHANDLED),
        ({"phase": "Error", "code": 84, "message": "main: Error (exit code 84)"}, Outcome.NETWORK),
    ],
)
def test_what_no_exit_code_of_ours_says_is_read_from_the_pod(node: dict[str, Any], outcome: Outcome) -> None:
    ended = ending_of(failed(**node))
    assert ended and ended.outcome is outcome


@pytest.mark.parametrize(
    ("phase", "message", "shutdown", "outcome"),
    [
        ("Succeeded", "", "", Outcome.DONE),
        ("Failed", "Stopped with strategy 'Stop'", "Stop", Outcome.PREEMPTED),
        ("Failed", "Stopped with strategy 'Terminate'", "Terminate", Outcome.PREEMPTED),
        ("Failed", "invalid spec: entrypoint template is missing", "", Outcome.CONFIGURATION),
        ("Error", 'workflowtemplates.argoproj.io "x" not found', "", Outcome.CONFIGURATION),
        ("Failed", "Max duration limit exceeded", "", Outcome.UNHANDLED),
        ("Error", "the controller lost its way", "", Outcome.NETWORK),
    ],
)
def test_a_run_that_ended_outside_its_steps(phase: str, message: str, shutdown: str, outcome: Outcome) -> None:
    ended = ending_of(workflow([], phase, message=message, shutdown=shutdown))
    assert ended and ended.outcome is outcome


def test_kubeflows_terminate_is_a_stop_by_a_user() -> None:
    run = workflow([pod_node("train", "Failed", code=87, message="Step exceeded its deadline")], "Failed")
    run["spec"]["activeDeadlineSeconds"] = 0
    ended = ending_of(run)
    assert ended and (ended.outcome, ended.message) == (Outcome.PREEMPTED, "stopped by a user (Terminate)")


def test_a_run_that_goes_on_has_no_outcome() -> None:
    assert ending_of(workflow([pod_node("a", "Failed", code=80)], "Running")) is None
    assert ending_of({"metadata": {"name": "just-created"}, "spec": {}}) is None


def test_the_last_attempt_counts() -> None:
    attempts = [
        pod_node("train", "Failed", code=84),
        pod_node("train", "Failed", code=86, message="main: Error (exit code 86)"),
    ]
    ended = ending_of(workflow(retry_node("train", attempts), "Failed"))
    assert ended and (ended.outcome, ended.where) == (Outcome.CHECKPOINT, "train")
    assert ended.message == "main: Error (exit code 86)" and ended.host == "node-1"
    recovered = retry_node("train", [pod_node("train", "Failed", code=84), pod_node("train")])
    then = ending_of(workflow([*recovered, pod_node("evaluate", "Failed", code=81)], "Failed"))
    assert then and (then.outcome, then.where) == (Outcome.DATA, "evaluate")


def test_of_several_failed_steps_the_first_counts_and_the_exit_task_last() -> None:
    nodes = [
        pod_node("report", "Failed", code=1, minute=1, parent=EXIT),
        pod_node("late", "Failed", code=81, minute=9),
        pod_node("early", "Failed", code=82, minute=3),
    ]
    ended = ending_of(workflow(nodes, "Failed"))
    assert ended and (ended.outcome, ended.where) == (Outcome.DIVERGED, "early")
    only_exit = ending_of(workflow([pod_node("train"), nodes[0]], "Failed"))
    assert only_exit and (only_exit.outcome, only_exit.where) == (Outcome.UNHANDLED, "report")


def test_the_farewell_names_the_step_the_class_and_what_to_do() -> None:
    words = farewell("run-1", Ending(outcome=Outcome.DATA, where="ingest", message="main: Error\n (exit code 81)"), "-n team")
    assert "run-1 failed at ingest (data, exit code 81): main: Error (exit code 81)" in words
    assert "`mm1 logs run-1 --task 'ingest' -n team`" in words and "`mm1 retry run-1 -n team`" in words
    assert farewell("run-1", Ending(outcome=Outcome.DONE), "-n team") == "run-1 succeeded"
    waits = farewell("run-1", Ending(outcome=Outcome.DONE), "", decided=["decide: wait: nothing new"])
    assert waits == "run-1 succeeded\ndecide: wait: nothing new"
    stopped = Ending(outcome=Outcome.PREEMPTED, message="stopped by a user (Stop)")
    assert farewell("run-1", stopped, "").startswith("run-1 was stopped (preempted, exit code 87): stopped by a user (Stop)")
    words = farewell("run-1", Ending(outcome=Outcome.BUDGET, where="pretrain", message="2 device hours are used up"), "")
    assert words.startswith("run-1 was stopped at pretrain (budget, exit code 88): 2 device hours are used up")
    assert "a larger device_hours" in words and "mm1 retry" not in words


def test_a_gate_that_refused_the_model_is_named_although_the_run_succeeded() -> None:
    gate = pod_node("gate") | {"outputs": {"exitCode": "0", "parameters": [{"name": "decision", "value": "fail"}]}}
    mix = pod_node("mix") | {"outputs": {"parameters": [{"name": "manifest", "value": "s3://b/x"}, {"name": "gone"}]}}
    refused = refusing(tasks_of(workflow([mix, gate], "Succeeded")))
    first, second = farewell("run-1", Ending(outcome=Outcome.DONE), "-n team", refused).splitlines()
    assert first == "run-1 succeeded" and second.startswith("gate: decision=fail")
    assert "`mm1 logs run-1 --task gate -n team`" in second
