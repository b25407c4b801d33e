"""What is said about training that does not start, and which pods' logs are read besides the supervisor's."""

from __future__ import annotations

from typing import Any

import pytest

from mm1_workflows.cluster.following.pending import RankPod, Training, rank_pods, reasons

LABELS = {"mm1.dev/run": "run-1", "mm1.dev/task": "pretrain", "mm1.dev/role": "rank"}
QUOTA = "couldn't assign flavors to pod set node: insufficient unused quota for nvidia.com/gpu in flavor default, 8 more needed"


def jobset(*, suspend: bool, queue: str = "mm1") -> dict[str, Any]:
    labels = LABELS | ({"kueue.x-k8s.io/queue-name": queue} if queue else {})
    return {"metadata": {"name": "run-1-pretrain", "labels": labels}, "spec": {"suspend": suspend}}


def workload(message: str, status: str = "False") -> dict[str, Any]:
    owners = [{"kind": "JobSet", "name": "run-1-pretrain"}]
    condition = {"type": "QuotaReserved", "status": status, "message": message}
    return {"metadata": {"name": "w", "ownerReferences": owners}, "status": {"conditions": [condition]}}


def pod(phase: str, index: int = 0, *, waiting: tuple[str, str] | None = None, unschedulable: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase}
    if waiting:
        status["containerStatuses"] = [{"state": {"waiting": {"reason": waiting[0], "message": waiting[1]}}}]
    if unschedulable:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        status["conditions"] = [condition | {"message": unschedulable}]
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"metadata": {"name": f"node-{index}", "labels": LABELS, "annotations": annotations}, "status": status}


def test_a_gang_without_quota_says_what_is_missing() -> None:
    found = reasons(Training([jobset(suspend=True)], [workload(QUOTA)], []))
    assert found == {"pretrain": f"waiting for quota in queue mm1: {QUOTA}"}
    assert reasons(Training([jobset(suspend=True)], [], [])) == {"pretrain": "waiting for quota in queue mm1"}
    assert reasons(Training([jobset(suspend=True, queue="")], [], [])) == {"pretrain": "its JobSet is suspended"}
    assert reasons(Training([jobset(suspend=False)], [workload("Quota reserved", "True")], [pod("Running")])) == {}


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (
            pod("Pending", 1, waiting=("ImagePullBackOff", "Back-off pulling image x")),
            "ImagePullBackOff: Back-off pulling image x",
        ),
        (pod("Pending", 1, waiting=("CreateContainerConfigError", 'secret "s" not found')), 'secret "s" not found'),
        (pod("Pending", 1, unschedulable="0/3 nodes are available: 3 Insufficient cpu."), "Unschedulable: 0/3 nodes"),
    ],
)
def test_a_pod_that_waits_says_why(waiting: dict[str, Any], words: str) -> None:
    assert words in reasons(Training([jobset(suspend=False)], [], [waiting]))["pretrain"]


@pytest.mark.parametrize(
    "fine", [pod("Running", waiting=("ErrImagePull", "old")), pod("Pending", waiting=("PodInitializing", ""))]
)
def test_a_pod_that_runs_or_starts_has_nothing_to_say(fine: dict[str, Any]) -> None:
    assert reasons(Training([jobset(suspend=False)], [], [fine])) == {}


def test_the_first_nodes_log_is_the_supervisors() -> None:
    pods = [pod("Running", 0), pod("Running", 1), pod("Pending", 2), pod("Failed", 3)]
    assert rank_pods(Training([jobset(suspend=False)], [], pods)) == [
        RankPod("node-1", "pretrain", 1, started=True, over=False),
        RankPod("node-2", "pretrain", 2, started=False, over=False),
        RankPod("node-3", "pretrain", 3, started=True, over=True),
    ]
