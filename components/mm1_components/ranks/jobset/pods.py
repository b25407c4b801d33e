"""Pods of a training run as plain Kubernetes objects: their node index, why they are pending, how they ended.

Pure functions over objects from the API, for the supervisor and for clients that follow a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm1.errors import Ending, Outcome
from mm1_components.ranks.jobset.names import INDEX_ANNOTATION, MAIN_CONTAINER

Object = dict[str, Any]
STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of containers that are starting."""
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
"""Waiting reasons that require a fix of the image or of the container's configuration."""
REMEDY = "check the profile's images and Secrets, and the pull secrets of the registry (accounts.imagePullSecrets of the chart)"
NOT_STARTED = ("StartError", "ContainerCannotRun")
"""Termination reasons of containers whose command could not be executed."""
KILLED, TERMINATED = 137, 143


@dataclass(frozen=True)
class Waiting:
    """Why a pod is pending."""

    reason: str
    message: str

    @property
    def needs_fix(self) -> bool:
        """Whether the pod cannot start without a fix."""
        return self.reason in NEEDS_FIX

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


def needs_fix(message: str) -> bool:
    """Whether Argo's message about a pod contains a reason that requires a fix."""
    return any(reason in message for reason in NEEDS_FIX)


def index_of(pod: Object) -> int:
    """Return the index of a pod in its gang."""
    metadata = pod["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return int(annotations.get(INDEX_ANNOTATION) or labels.get(INDEX_ANNOTATION) or 0)


def phase_of(pod: Object) -> str:
    """Return the phase: ``Pending``, ``Running``, ``Succeeded`` or ``Failed``."""
    return str(_status(pod).get("phase") or "Pending")


def has_ended(pod: Object) -> bool:
    """Whether a pod has succeeded or failed."""
    return phase_of(pod) in ("Succeeded", "Failed")


def waiting_of(pod: Object) -> Waiting | None:
    """Return why a pod is pending; None if it is not pending, is starting, or Kubernetes gives no reason."""
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
    """Return why Kueue does not admit a workload; empty if it is admitted, or without a reason."""
    conditions = (_condition(_status(workload), name) for name in ("QuotaReserved", "Admitted"))
    return next((str(item.get("message") or "") for item in conditions if item.get("status") == "False"), "")


def ending_of(pod: Object) -> Ending | None:
    """Return how a pod failed; None if it is running or succeeded."""
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
    """Return the outcome and message of a terminated container: from its own report, otherwise from its status."""
    code, reason, message = terminated["exitCode"], terminated.get("reason"), str(terminated.get("message") or "")
    if report := Ending.from_json(message):
        return report.outcome, report.message
    if reason == "OOMKilled":
        return Outcome.OUT_OF_MEMORY, "the container was killed: out of memory"
    if reason in NOT_STARTED:
        return Outcome.CONFIGURATION, f"the container could not be started: {message or reason}"
    outcome = Outcome.from_exit_code(code)
    if outcome is Outcome.UNHANDLED and disrupted:
        return Outcome.PREEMPTED, "the pod was evicted"
    if code in (KILLED, TERMINATED):
        return Outcome.NETWORK, f"the container was killed from outside (exit code {code})"
    return outcome, f"exit code {code}"


def _status(item: Object) -> Object:
    return item.get("status") or {}


def _condition(status: Object, kind: str) -> Object:
    """Return the condition of a type; empty if there is none."""
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})
