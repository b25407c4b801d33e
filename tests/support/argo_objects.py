"""Workflow objects as Argo 4.0 writes them: only the fields that are read."""

from __future__ import annotations

from typing import Any

RUN = "mm1-x-abc12"


def pod_node(
    name: str,
    phase: str = "Succeeded",
    *,
    code: int | None = None,
    message: str = "",
    minute: int = 1,
    progress: str = "0/1",
    parent: str = RUN,
    template: str = "step",
    host: str = "node-1",
) -> dict[str, Any]:
    """A node with a pod."""
    made: dict[str, Any] = {
        "id": f"{RUN}-{abs(hash((parent, name))) % 10**9}",
        "name": f"{parent}.{name}",
        "displayName": name,
        "type": "Pod",
        "templateName": template,
        "phase": phase,
        "startedAt": "2026-11-24T10:00:00Z",
        "progress": progress,
        "hostNodeName": host,
    }
    if phase in ("Succeeded", "Failed", "Error"):
        made["finishedAt"] = f"2026-11-24T10:{minute:02d}:00Z"
    if code is not None:
        made["outputs"] = {"exitCode": str(code)}
    return made | ({"message": message} if message else {})


def retry_node(name: str, attempts: list[dict[str, Any]], *, after: str = "", parent: str = RUN) -> list[dict[str, Any]]:
    """A task with attempts; Argo also lists what comes after it among its children at times."""
    for number, attempt in enumerate(attempts):
        attempt |= {"name": f"{parent}.{name}({number})", "displayName": f"{name}({number})", "id": f"{RUN}-{name}-{number}1"}
    last = attempts[-1] if attempts else {"phase": "Pending"}
    node = {
        "id": f"{RUN}-{name}",
        "name": f"{parent}.{name}",
        "displayName": name,
        "type": "Retry",
        "phase": last["phase"],
        "startedAt": "2026-11-24T10:00:00Z",
        "children": [attempt["id"] for attempt in attempts] + ([after] if after else []),
    }
    if "finishedAt" in last:
        node["finishedAt"] = last["finishedAt"]
    if last["phase"] in ("Failed", "Error"):
        node["message"] = "No more retries left"
    return [node, *attempts]


def workflow(
    nodes: list[dict[str, Any]], phase: str = "Running", *, tasks: tuple[str, ...] = (), message: str = "", shutdown: str = ""
) -> dict[str, Any]:
    """A workflow of one DAG with these nodes below it."""
    root = {"id": RUN, "name": RUN, "displayName": RUN, "type": "DAG", "phase": phase}
    dag = {"name": "main", "dag": {"tasks": [{"name": name, "template": "step"} for name in tasks]}}
    spec: dict[str, Any] = {"entrypoint": "main", "templates": [dag, {"name": "step", "container": {}}]}
    if shutdown:
        spec["shutdown"] = shutdown
    status: dict[str, Any] = {"phase": phase, "nodes": {node["id"]: node for node in [root, *nodes]}}
    if message:
        status["message"] = message
    metadata = {"name": RUN, "generateName": "mm1-x-", "namespace": "team", "creationTimestamp": "2026-11-24T09:59:58Z"}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec, "status": status}
