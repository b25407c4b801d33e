"""The outcome class of a run on a cluster: the last link of the chain rank -> pod -> JobSet -> supervisor -> Argo -> client.

A pure function over the workflow object. The class is that of the step that made the run fail: from the exit code of its last
attempt if there is one, otherwise from Argo's message about the pod.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mm1.errors import Ending, Outcome
from mm1_components.kube.pods import NOT_STARTED
from mm1_components.ranks.jobset.pods import needs_fix
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following.nodes import FAILED, Attempt, FollowedTask, finished, phase_of, status_of, tasks_of

DEADLINES = ("exceeded its deadline", "longer than the specified deadline", "DeadlineExceeded", "Max duration limit exceeded")
REJECTED = ("invalid spec", "not found", "failed to resolve", "spec.templates", "forbidden", "invalid", "admission webhook")
"""Parts of messages of Argo and Kubernetes about an object that cannot run without a change."""


def ending_of(workflow: Document) -> Ending | None:
    """Return how a run ended, and at which task (``where``); None while it is running."""
    if not finished(workflow):
        return None
    if phase_of(workflow) == "Succeeded":
        return Ending(outcome=Outcome.DONE)
    reported = str(status_of(workflow).get("message") or "")
    if how := stopped(workflow):
        return Ending(outcome=Outcome.PREEMPTED, message=f"stopped by a user ({how})")
    if failed := _failed(workflow):
        message = _last(failed).message or failed.message or reported
        return Ending(outcome=attempt_outcome(failed), message=message, where=failed.name, host=failed.host)
    return Ending(outcome=_outside(reported), message=reported)


def stopped(workflow: Document) -> str:
    """Return how a user stopped a run; empty if nobody did. Kubeflow's Terminate sets the deadline of the workflow to 0."""
    spec = workflow.get("spec") or {}
    return str(spec.get("shutdown") or ("Terminate" if spec.get("activeDeadlineSeconds") == 0 else ""))


def attempt_outcome(task: FollowedTask) -> Outcome:
    """Return the outcome class of a failed task."""
    last = _last(task)
    message = last.message or task.message
    if needs_fix(message) or any(reason in message for reason in NOT_STARTED):
        return Outcome.CONFIGURATION
    if "OOMKilled" in message:
        return Outcome.OUT_OF_MEMORY
    if any(sign in message for sign in DEADLINES):  # Kubernetes and Argo send SIGTERM at a limit
        return Outcome.PREEMPTED if last.exit_code == Outcome.PREEMPTED else Outcome.UNHANDLED
    if last.exit_code:
        known = Outcome.from_exit_code(last.exit_code)
        return known if known is not Outcome.UNHANDLED else _foreign(last.exit_code, message)
    return _outside(message) if last.phase == "Error" else Outcome.NETWORK


def _foreign(code: int, message: str) -> Outcome:
    """Return the class of other exit codes: 64 and 65 are from Argo's executor, codes above 128 mean a signal."""
    if code in (64, 65):
        return _outside(message)
    return Outcome.NETWORK if code > 128 else Outcome.UNHANDLED


def _outside(message: str) -> Outcome:
    """Return the class of a failure outside the container: a lost pod is transient, a rejected spec is not."""
    if any(sign in message for sign in DEADLINES):
        return Outcome.UNHANDLED
    return Outcome.CONFIGURATION if any(sign in message for sign in REJECTED) else Outcome.NETWORK


def _failed(workflow: Document) -> FollowedTask | None:
    """Return the task that made the run fail: the failed task that ended first, an exit task only if no other failed."""
    failed = [task for task in tasks_of(workflow) if task.phase in FAILED]
    late = datetime.max.replace(tzinfo=UTC)
    return min(failed, key=lambda task: (task.at_exit, task.finished or late), default=None)


def _last(task: FollowedTask) -> Attempt:
    return task.attempts[-1] if task.attempts else Attempt(pod="", phase=task.phase, message=task.message)
