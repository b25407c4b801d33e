"""How a run on a cluster ended, as an outcome class: the end of the line rank -> pod -> JobSet -> supervisor -> Argo -> here.

A pure function over the workflow object. The class is that of the failed step that the run failed at: the exit code of its
last attempt where it has one, else what Argo says about the pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mm1.errors import Outcome
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following.nodes import Attempt, Task, finished, phase_of, status_of, tasks_of

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
DEADLINES = ("exceeded its deadline", "longer than the specified deadline", "DeadlineExceeded", "Max duration limit exceeded")
REFUSED = ("invalid spec", "not found", "failed to resolve", "spec.templates", "forbidden", "invalid", "admission webhook")
"""Words of Argo and Kubernetes about an object that will never run as it is."""


@dataclass(frozen=True)
class Ended:
    """The end of a run."""

    outcome: Outcome
    task: str = ""
    """The task that it failed at; empty when it failed before or outside any."""
    message: str = ""


def outcome_of(workflow: Document) -> Ended | None:
    """How a run ended; None while it runs."""
    if not finished(workflow):
        return None
    if phase_of(workflow) == "Succeeded":
        return Ended(Outcome.DONE)
    said = str(status_of(workflow).get("message") or "")
    if shutdown := (workflow.get("spec") or {}).get("shutdown"):
        return Ended(Outcome.PREEMPTED, message=f"stopped by a person ({shutdown})")
    if failed := _failed(workflow):
        return Ended(attempt_outcome(failed), failed.name, _last(failed).message or failed.message or said)
    return Ended(_outside(said), message=said)


def attempt_outcome(task: Task) -> Outcome:
    """The outcome class of a failed task."""
    last = _last(task)
    words = last.message or task.message
    if image_problem(words):
        return Outcome.CONFIGURATION
    if "OOMKilled" in words:
        return Outcome.OUT_OF_MEMORY
    if any(word in words for word in DEADLINES):
        return Outcome.UNHANDLED
    if last.exit_code:
        known = Outcome.from_exit_code(last.exit_code)
        return known if known is not Outcome.UNHANDLED else _foreign(last.exit_code, words)
    return _outside(words) if last.phase == "Error" else Outcome.NETWORK


def image_problem(message: str) -> str:
    """Why an image cannot be had, when a message says so; else empty."""
    return next((reason for reason in IMAGE_REASONS if reason in message), "")


def _foreign(code: int, words: str) -> Outcome:
    """Codes that are none of ours: 64 and 65 are Argo's executor, above 128 is a signal (the node or somebody killed it)."""
    if code in (64, 65):
        return _outside(words)
    return Outcome.NETWORK if code > 128 else Outcome.UNHANDLED


def _outside(message: str) -> Outcome:
    """The class of a failure that no container caused: lost pods may pass, a spec that is refused does not."""
    if any(word in message for word in DEADLINES):
        return Outcome.UNHANDLED
    return Outcome.CONFIGURATION if any(word in message for word in REFUSED) else Outcome.NETWORK


def _failed(workflow: Document) -> Task | None:
    """The task that the run failed at: the first to end of those that failed, one of the exit only when no other did."""
    failed = [task for task in tasks_of(workflow) if task.phase in ("Failed", "Error")]
    late = datetime.max.replace(tzinfo=UTC)
    return min(failed, key=lambda task: (task.at_exit, task.finished or late), default=None)


def _last(task: Task) -> Attempt:
    return task.attempts[-1] if task.attempts else Attempt(pod="", phase=task.phase, message=task.message)
