"""Why training is pending: the reasons of Kueue and the scheduler for a run's JobSets and pods.

They are only available through the Kubernetes API. An account without permission to read one of the kinds gets fewer reasons,
but no error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mm1.errors import ConfigurationError
from mm1_components.kube.pods import has_ended, phase_of, waiting_of
from mm1_components.ranks.jobset.names import JOBSET, KUEUE, QUEUE_LABEL, RANK_ROLE, ROLE_LABEL, RUN_LABEL, TASK_LABEL
from mm1_components.ranks.jobset.pods import index_of, unmet_quota
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.transport.base import Transport, one_line
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport


@dataclass(frozen=True)
class Training:
    """The objects of a run's training on the cluster at some moment."""

    jobsets: list[Document] = field(default_factory=list)
    workloads: list[Document] = field(default_factory=list)
    pods: list[Document] = field(default_factory=list)


@dataclass(frozen=True)
class RankPod:
    """A training pod of a node other than node 0, whose log is in the supervisor's."""

    pod: str
    task: str
    node: int
    started: bool
    over: bool


class Trainings:
    """Reader of a run's training objects, as far as the transport and the account's permissions allow."""

    def __init__(self, transport: Transport, run: str) -> None:
        self.transport = transport if isinstance(transport, KubernetesTransport) else None
        self.selector = f"{RUN_LABEL}={run}"
        self._forbidden: set[str] = set()

    def read(self) -> Training:
        """Read the current objects; empty without the Kubernetes API."""
        jobsets = self._list(JOBSET, "jobsets", self.selector)
        if not jobsets:
            return Training()
        pods = self._list("v1", "pods", f"{self.selector},{ROLE_LABEL}={RANK_ROLE}")
        waiting = any((jobset.get("spec") or {}).get("suspend") for jobset in jobsets)
        workloads: list[Document] = []
        for version in KUEUE if waiting else ():
            workloads = workloads or self._list(version, "workloads")
        return Training(jobsets, workloads, pods)

    def _list(self, group_version: str, plural: str, selector: str = "") -> list[Document]:
        if self.transport is None or plural in self._forbidden:
            return []
        try:
            return self.transport.objects(group_version, plural, selector)
        except ConfigurationError:
            self._forbidden.add(plural)
            return []


def reasons(training: Training) -> dict[str, str]:
    """Return why training is pending, by task; tasks whose training is running are omitted."""
    by_task: dict[str, str] = {}
    for jobset in training.jobsets:
        if (jobset.get("spec") or {}).get("suspend"):
            by_task[_label(jobset, TASK_LABEL)] = _quota(jobset, training.workloads)
    for pod in training.pods:
        if waiting := waiting_of(pod):
            by_task.setdefault(_label(pod, TASK_LABEL), f"node {index_of(pod)}: {one_line(waiting)}")
    return by_task


def rank_pods(training: Training) -> list[RankPod]:
    """Return the pods whose logs are not in the supervisor's log."""
    others = [pod for pod in training.pods if index_of(pod) > 0]
    return [
        RankPod(
            pod=pod["metadata"]["name"],
            task=_label(pod, TASK_LABEL),
            node=index_of(pod),
            started=phase_of(pod) != "Pending",
            over=has_ended(pod),
        )
        for pod in others
    ]


def _quota(jobset: Document, workloads: list[Document]) -> str:
    """Return what a suspended JobSet waits for, according to Kueue."""
    queue = _label(jobset, QUEUE_LABEL)
    if not queue:
        return "its JobSet is suspended"
    workload = next((item for item in workloads if _owner(item) == jobset["metadata"]["name"]), {})
    reason = unmet_quota(workload)
    return f"waiting for quota in queue {queue}" + (f": {one_line(reason)}" if reason else "")


def _owner(item: Document) -> str:
    owners: list[dict[str, Any]] = item["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == "JobSet"), "")


def _label(item: Document, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name) or "")
