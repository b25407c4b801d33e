"""Pods of a training run as plain Kubernetes objects: their node index, what holds them back, how they ended.

Pure functions over objects from the API, for the supervisor and for clients that follow a run.
"""

from __future__ import annotations

from mm1.errors import Ending, Outcome
from mm1_components.kube.pods import NEEDS_FIX, Object, condition_of, outcome_of, phase_of, status_of
from mm1_components.ranks.jobset.names import INDEX_ANNOTATION, MAIN_CONTAINER

REMEDY = "check the profile's images and Secrets, and the pull secrets of the registry (accounts.imagePullSecrets of the chart)"


def needs_fix(message: str) -> bool:
    """Whether Argo's message about a pod contains a reason that requires a fix."""
    return any(reason in message for reason in NEEDS_FIX)


def index_of(pod: Object) -> int:
    """Return the index of a pod in its gang."""
    metadata = pod["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return int(annotations.get(INDEX_ANNOTATION) or labels.get(INDEX_ANNOTATION) or 0)


def unmet_quota(workload: Object) -> str:
    """Return why Kueue does not admit a workload; empty if it is admitted, or without a reason."""
    conditions = (condition_of(status_of(workload), name) for name in ("QuotaReserved", "Admitted"))
    return next((str(item.get("message") or "") for item in conditions if item.get("status") == "False"), "")


def ending_of(pod: Object) -> Ending | None:
    """Return how a pod failed; None if it is running or succeeded."""
    status = status_of(pod)
    main: Object = next((item for item in status.get("containerStatuses") or [] if item.get("name") == MAIN_CONTAINER), {})
    terminated = (main.get("state") or {}).get("terminated")
    disrupted = condition_of(status, "DisruptionTarget").get("status") == "True"
    if terminated is None:
        if phase_of(pod) != "Failed":
            return None
        message = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'the pod exited without reporting an error'}"
        outcome = Outcome.PREEMPTED if disrupted else Outcome.NETWORK
    elif terminated["exitCode"] == 0:
        return None
    else:
        outcome, message = outcome_of(terminated, disrupted)
    host = str((pod.get("spec") or {}).get("nodeName") or "")
    return Ending(outcome=outcome, message=message, where=f"node {index_of(pod)}", host=host)
