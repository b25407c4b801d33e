"""Why training does not start: what Kueue and the scheduler say about a run's JobSets and their pods.

Only the Kubernetes API shows them. The texts are pure functions over plain objects; an account that may not read one of the
kinds gets fewer reasons, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following.outcome import IMAGE_REASONS
from mm1_workflows.cluster.transport.base import Transport, one_line
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport

JOBSET = "jobset.x-k8s.io/v1alpha2"
KUEUE = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
RUN_LABEL, TASK_LABEL, ROLE_LABEL = "mm1.dev/run", "mm1.dev/task", "mm1.dev/role"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Training:
    """What a run's training consists of on the cluster, at one moment."""

    jobsets: list[Document] = field(default_factory=list)
    workloads: list[Document] = field(default_factory=list)
    pods: list[Document] = field(default_factory=list)


@dataclass(frozen=True)
class RankPod:
    """A training pod of a node other than the first (whose log the supervisor has)."""

    pod: str
    task: str
    node: int
    started: bool
    over: bool


class Trainings:
    """Reads the training objects of a run, as far as the way to the cluster and the account allow."""

    def __init__(self, transport: Transport, run: str) -> None:
        self.transport = transport if isinstance(transport, KubernetesTransport) else None
        self.selector = f"{RUN_LABEL}={run}"
        self._forbidden: set[str] = set()

    def read(self) -> Training:
        """The objects as they are now; empty without the Kubernetes API."""
        jobsets = self._list(JOBSET, "jobsets", self.selector)
        if not jobsets:
            return Training()
        pods = self._list("v1", "pods", f"{self.selector},{ROLE_LABEL}=rank")
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
    """Task -> why its training does not run; tasks whose training runs are left out."""
    found: dict[str, str] = {}
    for jobset in training.jobsets:
        task = _label(jobset, TASK_LABEL)
        if (jobset.get("spec") or {}).get("suspend"):
            found[task] = _quota(jobset, training.workloads)
    for pod in training.pods:
        if reason := pod_reason(pod):
            found.setdefault(_label(pod, TASK_LABEL), f"node {_index(pod)}: {reason}")
    return found


def rank_pods(training: Training) -> list[RankPod]:
    """The pods whose logs the supervisor does not have."""
    found = []
    for pod in training.pods:
        phase = (pod.get("status") or {}).get("phase")
        if _index(pod) > 0:
            over = phase in ("Succeeded", "Failed")
            found.append(
                RankPod(pod["metadata"]["name"], _label(pod, TASK_LABEL), _index(pod), over or phase == "Running", over)
            )
    return found


def pod_reason(pod: Document) -> str:
    """Why a pod waits; empty when it does not, or nothing is said yet."""
    status = pod.get("status") or {}
    if status.get("phase") != "Pending":
        return ""
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS or waiting.get("reason") == "CreateContainerConfigError":
            return one_line(f"{waiting['reason']}: {waiting.get('message', '')}")
    for condition in status.get("conditions") or []:
        if condition.get("reason") == "Unschedulable":
            return one_line(f"Unschedulable: {condition.get('message', '')}")
    return ""


def _quota(jobset: Document, workloads: list[Document]) -> str:
    """What a suspended JobSet waits for, in Kueue's words."""
    queue = _label(jobset, QUEUE_LABEL)
    if not queue:
        return "its JobSet is suspended"
    workload = next((item for item in workloads if _owner(item) == jobset["metadata"]["name"]), None)
    conditions = {item["type"]: item for item in ((workload or {}).get("status") or {}).get("conditions") or []}
    said = conditions.get("QuotaReserved") or conditions.get("Admitted") or {}
    if said.get("status") == "False" and said.get("message"):
        return f"waiting for quota in queue {queue}: {one_line(said['message'])}"
    return f"waiting for quota in queue {queue}"


def _owner(item: Document) -> str:
    owners: list[dict[str, Any]] = item["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == "JobSet"), "")


def _label(item: Document, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name) or "")


def _index(pod: Document) -> int:
    metadata = pod["metadata"]
    text = (metadata.get("labels") or {}).get(INDEX) or (metadata.get("annotations") or {}).get(INDEX) or "0"
    return int(text)
