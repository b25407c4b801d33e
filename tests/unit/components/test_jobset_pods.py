"""What is read from a pod: its node, what it waits for, how it ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1_components.kube.pods import NEEDS_FIX, Object, has_ended, waiting_of
from mm1_components.ranks.jobset.logs import sortable
from mm1_components.ranks.jobset.pods import ending_of, index_of, needs_fix, unmet_quota
from mm1_workflows.cluster.following.outcome import ending_of as ending_of_run
from tests.support.argo_objects import pod_node, workflow

INDEX = "batch.kubernetes.io/job-completion-index"


def pod(phase: str = "Failed", *, waiting: str = "", init: str = "", conditions: tuple = (), **terminated: Any) -> Object:
    def statuses(name: str, reason: str) -> list[Object]:
        state: Object = {"waiting": {"reason": reason, "message": "no such image"}} if reason else {}
        return [{"name": name, "state": state}]

    main = statuses("main", waiting)
    if terminated:
        main[0]["state"] = {"terminated": {"reason": "Error", **terminated}}
    listed = [{"type": kind, "status": value, "reason": why, "message": "0/1 nodes"} for kind, value, why in conditions]
    status = {"phase": phase, "containerStatuses": main, "initContainerStatuses": statuses("init", init), "conditions": listed}
    metadata = {"name": "p", "uid": "u", "annotations": {INDEX: "1"}}
    return {"metadata": metadata, "spec": {"nodeName": "host-3"}, "status": status}


EVICTED = (("DisruptionTarget", "True", "Eviction"),)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"exitCode": 80}, Outcome.CONFIGURATION),
        ({"exitCode": 84}, Outcome.NETWORK),
        ({"exitCode": 87}, Outcome.PREEMPTED),
        ({"exitCode": 88}, Outcome.BUDGET),
        ({"exitCode": 1}, Outcome.UNHANDLED),
        ({"exitCode": 137, "reason": "OOMKilled"}, Outcome.OUT_OF_MEMORY),
        ({"exitCode": 137}, Outcome.NETWORK),
        ({"exitCode": 143}, Outcome.NETWORK),
        ({"exitCode": 137, "conditions": EVICTED}, Outcome.PREEMPTED),
        ({"exitCode": 128, "reason": "StartError", "message": "python: no such file"}, Outcome.CONFIGURATION),
        ({"conditions": EVICTED}, Outcome.PREEMPTED),
        ({}, Outcome.NETWORK),
        ({"exitCode": 1, "message": json.dumps({"outcome": 82, "message": "loss is nan"})}, Outcome.DIVERGED),
    ],
)
def test_how_a_node_ended(given: dict[str, Any], outcome: Outcome) -> None:
    ending = ending_of(pod(**given))
    assert ending is not None and ending.outcome is outcome
    assert (ending.where, ending.host) == ("node 1", "host-3") and ending.message


def test_a_node_that_runs_or_did_its_work_has_no_ending() -> None:
    assert ending_of(pod("Running")) is None and not has_ended(pod("Running"))
    assert ending_of(pod("Succeeded", exitCode=0)) is None and has_ended(pod("Succeeded", exitCode=0))
    assert ending_of({"metadata": {"name": "just-created"}}) is None


def test_the_number_of_a_node_is_an_annotation_or_a_label() -> None:
    assert index_of(pod()) == 1
    assert index_of({"metadata": {"labels": {INDEX: "2"}}}) == 2
    assert index_of({"metadata": {"annotations": None}}) == 0


@pytest.mark.parametrize("reason", sorted(NEEDS_FIX))
@pytest.mark.parametrize("container", ["waiting", "init"])
def test_what_waiting_does_not_fix_is_known_wherever_it_is_seen(reason: str, container: str) -> None:
    waiting = waiting_of(pod("Pending", **{container: reason}))
    assert waiting is not None and waiting.needs_fix and str(waiting) == f"{reason}: no such image"
    message = f"{reason}: no such image"
    assert needs_fix(message), "as Argo repeats it"
    ended = ending_of_run(workflow([pod_node("a", "Error", message=message)], "Failed"))
    assert ended is not None and ended.outcome is Outcome.CONFIGURATION


@pytest.mark.parametrize("reason", ["Unschedulable", "SchedulingGated"])
def test_what_the_scheduler_waits_for_may_come(reason: str) -> None:
    waiting = waiting_of(pod("Pending", conditions=(("PodScheduled", "False", reason),)))
    assert waiting is not None and not waiting.needs_fix and str(waiting) == f"{reason}: 0/1 nodes"


def test_a_pod_that_starts_or_runs_waits_for_nothing() -> None:
    scheduled = (("PodScheduled", "True", ""),)
    assert waiting_of(pod("Pending", waiting="PodInitializing", init="ContainerCreating", conditions=scheduled)) is None
    assert waiting_of(pod("Running", waiting="ErrImagePull")) is None
    assert waiting_of({"metadata": {"name": "just-created"}}) is None


def test_kueue_says_what_quota_is_missing() -> None:
    condition = {"type": "QuotaReserved", "status": "False", "message": "8 more needed"}
    assert unmet_quota({"status": {"conditions": [condition]}}) == "8 more needed"
    assert unmet_quota({"status": {"conditions": [condition | {"status": "True"}]}}) == ""
    assert unmet_quota({}) == ""


def test_times_of_log_lines_can_be_compared_though_zeros_are_cut() -> None:
    stamps = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.12Z", "2026-01-01T00:00:01.000000001Z"]
    assert sorted(reversed(stamps), key=sortable) == stamps
