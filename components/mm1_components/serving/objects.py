"""Objects of a cluster that serves, as both kinds of targets read them: pods, Deployments, and the journal of a rollout."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from mm1.config.resolve import validate
from mm1.errors import ConfigurationError, Mm1Error
from mm1_components.kube.api import Namespace
from mm1_components.kube.pods import Object, outcome_of, status_of, waiting_of
from mm1_components.serving.names import CONTAINERS, JOURNAL_ANNOTATION, PORT
from mm1_components.serving.state import Journal, Pod

log = logging.getLogger("mm1")

MANAGER = [("fieldManager", "mm1-rollout")]
"""Name of this writer, which server-side apply keeps apart from Helm."""
REPEATED = "ErrImagePull"
"""Waiting reason that may pass; ImagePullBackOff follows if it does not."""


class ServingNamespace(Namespace):
    """A namespace of a cluster, as a rollout uses it."""

    role = "mm1-rollout"
    needed_by = "deployment_name; leave it empty to record the promotion only"


def pod_of(pod: Object) -> Pod:
    """Return what a rollout needs to know about a pod."""
    status = status_of(pod)
    ports = container_of(pod["spec"]).get("ports") or []
    port = next((item["containerPort"] for item in ports if item.get("name") == PORT), 8000)
    address = str(status.get("podIP") or "")
    host = f"[{address}]" if ":" in address else address
    waiting = waiting_of(pod)
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    return Pod(
        name=pod["metadata"]["name"],
        url=f"http://{host}:{port}" if address else "",
        is_ready=conditions.get("Ready") == "True",
        failure=str(waiting) if waiting and waiting.needs_fix and waiting.reason != REPEATED else _ending(status),
        pending=str(waiting or ""),
    )


def _ending(status: Object) -> str:
    """Return how the server of a pod ended, now or before its restart; empty if it never did."""
    containers = [item for item in status.get("containerStatuses") or [] if item.get("name") in CONTAINERS]
    for container in containers:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if terminated := state.get("terminated"):
                outcome, message = outcome_of(terminated, disrupted=False)
                return f"the server ended ({outcome.label}): {message}"
        if container.get("restartCount"):
            return "the server was restarted"
    return f"{status.get('reason') or 'Failed'}: {status.get('message') or ''}" if status.get("phase") == "Failed" else ""


def is_complete(live: Object, replicas: int) -> bool:
    """Whether the controller has seen the newest template and all pods are of it, available, and no other one exists."""
    status = status_of(live)
    is_seen = int(status.get("observedGeneration", 0)) >= int(live["metadata"].get("generation", 0))
    counts = [int(status.get(name) or 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return is_seen and counts == [replicas] * 3


def journal_in(text: str) -> Journal | None:
    """Return the journal in a text; None if that is empty or cannot be read."""
    if not text:
        return None
    try:
        return validate(Journal, json.loads(text), JOURNAL_ANNOTATION)
    except (ValueError, ConfigurationError):  # written by hand, or by another version: the rollout starts from the beginning
        return None


def tell(namespace: ServingNamespace, api: str, kind: str, find: Callable[[], Object], action: str, message: str) -> None:
    """Write an Event about an object that serves, if that is possible.

    Args:
        namespace: its namespace.
        api: its API group and version.
        kind: its kind.
        find: reads the object.
        action: of the record: promoted, rolled back or refused.
        message: one sentence.
    """
    try:
        live = find()
    except Mm1Error as error:
        log.info("no Event %s: %s", action, error)
        return
    name, uid = live["metadata"]["name"], live["metadata"]["uid"]
    about = {"apiVersion": api, "kind": kind, "name": name, "uid": uid}
    namespace.event(about, action.title().replace(" ", ""), message, is_warning=action == "refused")


def annotations_of(item: Object) -> dict[str, str]:
    """Return the annotations of an object or a pod template."""
    return dict(item["metadata"].get("annotations") or {})


def container_of(spec: Object) -> dict[str, Any]:
    """Return the server's container of a pod."""
    return next((item for item in spec["containers"] if item["name"] in CONTAINERS), spec["containers"][0])
