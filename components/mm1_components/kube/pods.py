"""Pods as plain Kubernetes objects: their phase, why they are pending, how a container ended.

Pure functions over objects from the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm1.errors import Ending, Outcome

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


def phase_of(pod: Object) -> str:
    """Return the phase: ``Pending``, ``Running``, ``Succeeded`` or ``Failed``."""
    return str(status_of(pod).get("phase") or "Pending")


def has_ended(pod: Object) -> bool:
    """Whether a pod has succeeded or failed."""
    return phase_of(pod) in ("Succeeded", "Failed")


def waiting_of(pod: Object) -> Waiting | None:
    """Return why a pod is pending; None if it is not pending, is starting, or Kubernetes gives no reason."""
    if phase_of(pod) != "Pending":
        return None
    status = status_of(pod)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in STARTING:
            return Waiting(str(waiting["reason"]), str(waiting.get("message") or ""))
    scheduled = condition_of(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return Waiting(str(scheduled.get("reason") or "Unschedulable"), str(scheduled.get("message") or ""))
    return None


def outcome_of(terminated: Object, disrupted: bool) -> tuple[Outcome, str]:
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


def status_of(item: Object) -> Object:
    """Return the status of an object; empty if it has none yet."""
    return item.get("status") or {}


def condition_of(status: Object, kind: str) -> Object:
    """Return the condition of a type; empty if there is none."""
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})
