r"""Whether another supervisor follows one that ends: the decision about who cleans up.

::

    outcome is not retried --------------------------------------\
    no workflow, or it is being deleted, stopped, has ended,      >-- nobody follows: this supervisor deletes its JobSet
      or its time is up (Kubeflow's Terminate sets it to 0)      |
    this was the last attempt ----------------------------------/
    anything else (the pod is evicted, its node drained, a network error): the next attempt adopts the JobSet
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mm1.errors import Outcome
from mm1_components.kube.pods import Object
from mm1_components.ranks.jobset.names import NODE_NAME_ANNOTATION, WORKFLOW_LABEL

ENDED = ("Succeeded", "Failed", "Error")
EARLY = timedelta(seconds=30)
"""A supervisor that is stopped this long before the deadline of its workflow is stopped because of it: clocks differ, and
Kubernetes stops the pod at its own deadline, which Argo rounds down."""
_ATTEMPT = re.compile(r"\((\d+)\)$")


def workflow_of(pod: Object | None) -> str:
    """Return the workflow that started a pod; empty if the pod is unknown, or not started by Argo."""
    return str((((pod or {}).get("metadata") or {}).get("labels") or {}).get(WORKFLOW_LABEL) or "")


def why_nobody_follows(outcome: Outcome, workflow: Object | None, pod: Object | None, retries: int) -> str:
    """Return why no other supervisor follows; empty if the engine starts another one.

    Args:
        outcome: how this supervisor ends.
        workflow: its workflow; None if there is none.
        pod: its pod; None if unknown.
        retries: the engine's retries of the step.
    """
    if not outcome.retried:
        return f"class {outcome.label} is not retried"
    if workflow is None:
        return "it has no workflow, or the workflow was deleted"
    if reason := why_over(workflow, datetime.now(UTC)):
        return reason
    attempt = _ATTEMPT.search((((pod or {}).get("metadata") or {}).get("annotations") or {}).get(NODE_NAME_ANNOTATION, ""))
    if attempt and int(attempt[1]) >= retries:
        return f"this was the last of {retries + 1} attempts"
    return ""


def why_over(workflow: Object, now: datetime) -> str:
    """Return why a workflow starts no more pods; empty if it may."""
    spec, status = workflow.get("spec") or {}, workflow.get("status") or {}
    stored = status.get("storedWorkflowTemplateSpec") or {}  # of a workflow that refers to a template
    if workflow["metadata"].get("deletionTimestamp"):
        return "the workflow is being deleted"
    if shutdown := spec.get("shutdown") or stored.get("shutdown"):
        return f"the workflow is being stopped ({shutdown})"
    if status.get("phase") in ENDED or status.get("finishedAt"):
        return f"the workflow has ended ({status.get('phase')}: {status.get('message') or 'without a message'})"
    limits = [limit for limit in (spec.get("activeDeadlineSeconds"), stored.get("activeDeadlineSeconds")) if limit is not None]
    if 0 in limits:
        return "the workflow is being terminated (activeDeadlineSeconds: 0)"
    started = status.get("startedAt")
    if limits and started and datetime.fromisoformat(started) + timedelta(seconds=min(limits)) <= now + EARLY:
        return f"the workflow has reached its time limit of {min(limits)} s"
    return ""
