"""What a look at pods tells the supervisor: outcome, message, reason of waiting."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from kubernetes import client

from mm1.errors import Outcome
from mm1_components.ranks.jobset.logs import sortable
from mm1_components.ranks.jobset.watching import ending_of, pending_of


def pod(
    *,
    phase: str = "Failed",
    code: int | None = None,
    reason: str = "Error",
    message: str = "",
    waiting: str = "",
    conditions: tuple[tuple[str, str, str], ...] = (),
) -> client.V1Pod:
    state = client.V1ContainerState()
    if code is not None:
        state.terminated = client.V1ContainerStateTerminated(exit_code=code, reason=reason, message=message)
    if waiting:
        state.waiting = client.V1ContainerStateWaiting(reason=waiting, message="no such image")
    status = client.V1ContainerStatus(name="main", image="i", image_id="", ready=False, restart_count=0, state=state)
    made = datetime.now(UTC) - timedelta(seconds=90)
    listed = [
        client.V1PodCondition(type=kind, status=value, reason=why, message="0/1 nodes", last_transition_time=made)
        for kind, value, why in conditions
    ]
    metadata = client.V1ObjectMeta(
        name="p", uid="u", creation_timestamp=made, annotations={"batch.kubernetes.io/job-completion-index": "1"}
    )
    return client.V1Pod(
        metadata=metadata, status=client.V1PodStatus(phase=phase, container_statuses=[status], conditions=listed)
    )


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"code": 80}, Outcome.CONFIGURATION),
        ({"code": 84}, Outcome.NETWORK),
        ({"code": 87}, Outcome.PREEMPTED),
        ({"code": 1}, Outcome.UNHANDLED),
        ({"code": 137, "reason": "OOMKilled"}, Outcome.OUT_OF_MEMORY),
        ({"code": 137}, Outcome.NETWORK),
        ({"code": 137, "conditions": (("DisruptionTarget", "True", "Eviction"),)}, Outcome.PREEMPTED),
        ({"conditions": (("DisruptionTarget", "True", "Eviction"),)}, Outcome.PREEMPTED),
        ({}, Outcome.NETWORK),
        ({"code": 1, "message": json.dumps({"outcome": 82, "message": "loss is nan"})}, Outcome.DIVERGED),
    ],
)
def test_how_a_node_ended(given: dict, outcome: Outcome) -> None:
    ending = ending_of(pod(**given))
    assert ending is not None and ending.outcome is outcome and ending.where == "node 1" and ending.message


def test_a_node_that_runs_or_did_its_work_has_no_ending() -> None:
    assert ending_of(pod(phase="Running")) is None
    assert ending_of(pod(phase="Succeeded", code=0)) is None


def test_why_a_pod_waits() -> None:
    pulling = pending_of(pod(phase="Pending", waiting="ImagePullBackOff"))
    assert pulling is not None and pulling.is_pull and 60 < pulling.seconds < 200
    full = pending_of(pod(phase="Pending", conditions=(("PodScheduled", "False", "Unschedulable"),)))
    assert full is not None and not full.is_pull and "0/1 nodes" in full.message
    assert pending_of(pod(phase="Pending", waiting="ContainerCreating")) is None
    assert pending_of(pod(phase="Running")) is None


def test_times_of_log_lines_can_be_compared_though_zeros_are_cut() -> None:
    stamps = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.12Z", "2026-01-01T00:00:01.000000001Z"]
    assert sorted(reversed(stamps), key=sortable) == stamps
