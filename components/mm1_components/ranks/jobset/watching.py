"""What a look at a JobSet and its pods tells: state, complaint of what is pending, outcome of what has ended.

Pure functions over what the API returns, so that every case can be tested without a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mm1.errors import Ending, Outcome

PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
KILLED = 137


def index_of(pod: Any) -> int:
    """Number of the node that a pod is."""
    annotations = pod.metadata.annotations or {}
    return int(annotations.get(INDEX_ANNOTATION, 0))


def ending_of(pod: Any) -> Ending | None:
    """How a pod ended; None while it runs or when it did its work."""
    status = next((one for one in pod.status.container_statuses or [] if one.name == "main"), None)
    ended = status.state.terminated if status and status.state else None
    disrupted = any(one.type == "DisruptionTarget" and one.status == "True" for one in pod.status.conditions or [])
    where, host = f"node {index_of(pod)}", (pod.spec.node_name if pod.spec else None) or ""
    if ended is None:
        if pod.status.phase != "Failed":
            return None
        message = f"{pod.status.reason or 'Failed'}: {pod.status.message or 'the pod exited without reporting an error'}"
        outcome = Outcome.PREEMPTED if disrupted else Outcome.NETWORK
        return Ending(outcome=outcome, message=message, where=where, host=host)
    if ended.exit_code == 0:
        return None
    outcome, message = _judged(ended, disrupted)
    return Ending(outcome=outcome, message=message, where=where, host=host)


def _judged(ended: Any, disrupted: bool) -> tuple[Outcome, str]:
    if own := Ending.from_json(ended.message or ""):  # the node's own words
        return own.outcome, own.message
    if ended.reason == "OOMKilled":
        return Outcome.OUT_OF_MEMORY, "the container was killed: out of memory"
    outcome = Outcome.from_exit_code(ended.exit_code)
    if outcome is Outcome.UNHANDLED and disrupted:
        return Outcome.PREEMPTED, "the pod was evicted"
    if ended.exit_code in (KILLED, 143):
        return Outcome.NETWORK, f"the container was killed from outside (exit {ended.exit_code})"
    return outcome, f"exit {ended.exit_code}"


@dataclass(frozen=True)
class Pending:
    """Why a pod does not run yet."""

    reason: str
    message: str
    since: datetime

    @property
    def is_pull(self) -> bool:
        """Whether it is the image or the container's set-up, which waiting seldom mends."""
        return self.reason in PULL_REASONS

    @property
    def seconds(self) -> float:
        """For how long."""
        return (datetime.now(UTC) - self.since).total_seconds()


def pending_of(pod: Any) -> Pending | None:
    """Why a pod is pending; None when it is not, or nothing is said yet."""
    if pod.status.phase != "Pending":
        return None
    for status in pod.status.container_statuses or []:
        waiting = status.state.waiting if status.state else None
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            return Pending(waiting.reason, waiting.message or "", pod.metadata.creation_timestamp)
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return Pending(condition.reason or "Unschedulable", condition.message or "", condition.last_transition_time)
    return None
