"""Pods of a training run as plain Kubernetes objects: which node they are, what they wait for, how they ended.

Pure functions over what the API returns, for the supervisor and for those who follow a run from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm1.errors import Ending, Outcome
from mm1_components.ranks.jobset.names import INDEX_ANNOTATION, MAIN_CONTAINER

Object = dict[str, Any]
STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""Reasons of containers that are about to start."""
NEEDS_FIX = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons of containers that waiting does not start: the image, or what the container is given, has to be corrected."""
REMEDY = "check the profile's images and Secrets, and whether the nodes may pull from the registry"
NOT_STARTED = ("StartError", "ContainerCannotRun")
"""Reasons of containers whose command could not be executed."""
KILLED, TERMINATED = 137, 143


@dataclass(frozen=True)
class Waiting:
    """What a pod waits for."""

    reason: str
    message: str

    @property
    def needs_fix(self) -> bool:
        """Whether somebody has to correct something before the pod can start."""
        return self.reason in NEEDS_FIX

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


def needs_fix(message: str) -> bool:
    """Whether a message, as Argo writes it about a pod, names one of the reasons that waiting does not change."""
    return any(reason in message for reason in NEEDS_FIX)


def index_of(pod: Object) -> int:
    """Number of the node that a pod is in its gang."""
    metadata = pod["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return int(annotations.get(INDEX_ANNOTATION) or labels.get(INDEX_ANNOTATION) or 0)


def phase_of(pod: Object) -> str:
    """``Pending``, ``Running``, ``Succeeded`` or ``Failed``."""
    return str(_status(pod).get("phase") or "Pending")


def has_ended(pod: Object) -> bool:
    """Whether a pod has ended, well or not."""
    return phase_of(pod) in ("Succeeded", "Failed")


def waiting_of(pod: Object) -> Waiting | None:
    """Why a pod is pending; None when it is not, when it starts, or while Kubernetes gives no reason."""
    if phase_of(pod) != "Pending":
        return None
    status = _status(pod)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in STARTING:
            return Waiting(str(waiting["reason"]), str(waiting.get("message") or ""))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return Waiting(str(scheduled.get("reason") or "Unschedulable"), str(scheduled.get("message") or ""))
    return None


def unmet_quota(workload: Object) -> str:
    """Why Kueue does not admit a workload; empty when it has, or gives no reason."""
    conditions = (_condition(_status(workload), name) for name in ("QuotaReserved", "Admitted"))
    return next((str(one.get("message") or "") for one in conditions if one.get("status") == "False"), "")


def ending_of(pod: Object) -> Ending | None:
    """How a pod ended; None while it runs, and when it did its work."""
    status = _status(pod)
    main: Object = next((item for item in status.get("containerStatuses") or [] if item.get("name") == MAIN_CONTAINER), {})
    terminated = (main.get("state") or {}).get("terminated")
    disrupted = _condition(status, "DisruptionTarget").get("status") == "True"
    if terminated is None:
        if phase_of(pod) != "Failed":
            return None
        message = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'the pod exited without reporting an error'}"
        outcome = Outcome.PREEMPTED if disrupted else Outcome.NETWORK
    elif terminated["exitCode"] == 0:
        return None
    else:
        outcome, message = _outcome(terminated, disrupted)
    host = str((pod.get("spec") or {}).get("nodeName") or "")
    return Ending(outcome=outcome, message=message, where=f"node {index_of(pod)}", host=host)


def _outcome(terminated: Object, disrupted: bool) -> tuple[Outcome, str]:
    """The outcome and message of a container's end: its own report first, then what Kubernetes says about it."""
    code, reason, message = terminated["exitCode"], terminated.get("reason"), str(terminated.get("message") or "")
    if own := Ending.from_json(message):
        return own.outcome, own.message
    if reason == "OOMKilled":
        return Outcome.OUT_OF_MEMORY, "the container was killed: out of memory"
    if reason in NOT_STARTED:
        return Outcome.CONFIGURATION, f"the container could not be started: {message or reason}"
    outcome = Outcome.from_exit_code(code)
    if outcome is Outcome.UNHANDLED and disrupted:
        return Outcome.PREEMPTED, "the pod was evicted"
    if code in (KILLED, TERMINATED):
        return Outcome.NETWORK, f"the container was killed from outside (exit {code})"
    return outcome, f"exit {code}"


def _status(item: Object) -> Object:
    return item.get("status") or {}


def _condition(status: Object, kind: str) -> Object:
    """The condition of a type; empty when there is none."""
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})
