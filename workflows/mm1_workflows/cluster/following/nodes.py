"""The tasks of a workflow object: phase, times, host, progress, attempts, message, and pods.

Argo keeps a flat map of nodes. A task is a pod node, or a retry node whose children are the attempts; tasks that Argo has not
reached have no node and are taken from the spec. Pure functions over plain data, shared by both transports.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mm1.errors import ConfigurationError
from mm1_components.kube.pods import STARTING
from mm1_workflows.argo.document import Document

Node = dict[str, Any]
FAILED = ("Failed", "Error")
FINISHED = ("Succeeded", *FAILED)
OVER = (*FINISHED, "Skipped", "Omitted")
WAITING = "Waiting"
"""Phase of a task that Argo has not reached yet (not a phase of Argo)."""
LEAVES = ("Pod", "Retry", "Skipped", "Suspend", "HTTP", "Plugin", "Container")
POD_NAMES_V1 = "v1"


@dataclass(frozen=True)
class Attempt:
    """A pod of a task."""

    pod: str
    phase: str
    message: str = ""
    host: str = ""
    exit_code: int | None = None
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True)
class FollowedTask:
    """A task of a run on a cluster."""

    name: str
    """Name in the workflow file; items of a loop have the suffix ``(0:item)``."""
    phase: str
    started: datetime | None = None
    finished: datetime | None = None
    progress: tuple[int, int] | None = None
    """Done and total, if the task reports progress."""
    message: str = ""
    attempts: tuple[Attempt, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    """Output parameters of its latest attempt."""
    at_exit: bool = False

    @property
    def over(self) -> bool:
        """Whether the task has ended."""
        return self.phase in OVER

    @property
    def host(self) -> str:
        """Host of its latest attempt."""
        return self.attempts[-1].host if self.attempts else ""

    def seconds(self, now: datetime) -> float | None:
        """Return the run time so far in seconds; None before it starts."""
        return max(0.0, ((self.finished or now) - self.started).total_seconds()) if self.started else None


def name_of(workflow: Document) -> str:
    """Return the workflow's name."""
    return str(workflow["metadata"]["name"])


def status_of(workflow: Document) -> dict[str, Any]:
    """Return the workflow's status; empty until the controller has processed it."""
    return workflow.get("status") or {}


def phase_of(workflow: Document) -> str:
    """Return the phase: ``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Error``."""
    return str(status_of(workflow).get("phase") or "Pending")


def finished(workflow: Document) -> bool:
    """Whether the run has ended, including its exit task."""
    return phase_of(workflow) in FINISHED


def nodes_of(workflow: Document) -> dict[str, Node]:
    """Return the nodes by id; the object contains a large map in compressed form.

    Raises:
        ConfigurationError: the controller keeps the map in a database, which only Argo Server can read.
    """
    status = status_of(workflow)
    if packed := status.get("compressedNodes"):
        nodes: dict[str, Node] = json.loads(gzip.decompress(base64.b64decode(packed)))
        return nodes
    if status.get("offloadNodeStatusVersion") and not status.get("nodes"):
        raise ConfigurationError(f"{name_of(workflow)}: its node status is offloaded to a database: use --server")
    return status.get("nodes") or {}


def tasks_of(workflow: Document) -> list[FollowedTask]:
    """Return all tasks: those of the DAG in its order, then those at exit."""
    nodes = nodes_of(workflow)
    order = {name: number for number, name in enumerate(spec_tasks(workflow))}
    attempts = {child for node in nodes.values() if node.get("type") == "Retry" for child in _children(node, nodes)}
    leaves = [node for node in nodes.values() if node.get("type") in LEAVES and node["id"] not in attempts]
    tasks = [_task(node, nodes, workflow) for node in leaves]
    reached = {_stem(str(node.get("displayName"))) for node in nodes.values()}
    if not finished(workflow):
        tasks += [FollowedTask(name, WAITING) for name in order if name not in reached]
    last = datetime.max.replace(tzinfo=UTC)

    def sort_key(task: FollowedTask) -> tuple[Any, ...]:
        return task.at_exit, order.get(_stem(task.name), len(order)), task.started or last, _numbered(task.name)

    return sorted(tasks, key=sort_key)


def refusing(tasks: Iterable[FollowedTask]) -> list[str]:
    """Return the gates that refused the model: their steps succeed, with a decision."""
    return [task.name for task in tasks if task.outputs.get("decision") == "fail"]


def spec_tasks(workflow: Document) -> list[str]:
    """Return the names of the tasks in the entrypoint's DAG, in the order of the spec."""
    stored = status_of(workflow).get("storedWorkflowTemplateSpec") or {}
    spec = workflow.get("spec") or {}
    templates = {template.get("name"): template for template in spec.get("templates") or stored.get("templates") or []}
    body = templates.get(spec.get("entrypoint") or stored.get("entrypoint"), {})
    return [task["name"] for task in (body.get("dag") or {}).get("tasks") or []]


def _task(node: Node, nodes: dict[str, Node], workflow: Document) -> FollowedTask:
    if node["type"] == "Retry":
        attempts = tuple(_attempt(nodes[child], workflow) for child in _children(node, nodes))
    else:
        attempts = (_attempt(node, workflow),) if node["type"] == "Pod" else ()
    last = nodes[_children(node, nodes)[-1]] if node["type"] == "Retry" and attempts else node
    phase = str(node.get("phase") or "Pending")
    message = str(last.get("message") or node.get("message") or "")
    return FollowedTask(
        name=str(node.get("displayName") or node["name"]),
        phase="Pending" if phase == "Running" and last.get("phase") == "Pending" else phase,
        started=moment(node.get("startedAt")),
        finished=moment(node.get("finishedAt")),
        progress=_progress(last.get("progress")),
        message="" if message in STARTING else message,
        attempts=attempts,
        outputs={
            item["name"]: str(item["value"]) for item in (last.get("outputs") or {}).get("parameters") or [] if "value" in item
        },
        at_exit=str(node["name"]).startswith(f"{name_of(workflow)}.onExit"),
    )


def _children(node: Node, nodes: dict[str, Node]) -> list[str]:
    """Return the attempts of a retry node, in order (its children may also include later tasks of the DAG)."""
    ids = [child for child in node.get("children") or [] if child in nodes]
    return [child for child in ids if nodes[child]["name"].startswith(f"{node['name']}(") and nodes[child].get("type") == "Pod"]


def _attempt(node: Node, workflow: Document) -> Attempt:
    code = (node.get("outputs") or {}).get("exitCode")
    return Attempt(
        pod=pod_name(node, workflow),
        phase=str(node.get("phase") or "Pending"),
        message=str(node.get("message") or ""),
        host=str(node.get("hostNodeName") or ""),
        exit_code=int(code) if code not in (None, "") else None,
        started=moment(node.get("startedAt")),
        finished=moment(node.get("finishedAt")),
    )


def pod_name(node: Node, workflow: Document) -> str:
    """Return the name of a node's pod (since Argo 3.4: workflow, template, hash of the node's name)."""
    name = name_of(workflow)
    annotations = workflow["metadata"].get("annotations") or {}
    if annotations.get("workflows.argoproj.io/pod-name-format") == POD_NAMES_V1 or node["name"] == name:
        return str(node["id"])
    template = node.get("templateName") or (node.get("templateRef") or {}).get("template") or ""
    prefix = f"{name}-{template}" if template else name
    return f"{prefix[:242]}-{str(node['id']).rpartition('-')[2]}"


def moment(text: Any) -> datetime | None:
    """Parse a time of the API (RFC 3339); None if it is empty."""
    return datetime.fromisoformat(str(text)) if text else None


def _progress(text: Any) -> tuple[int, int] | None:
    """Parse ``N/M``; None for Argo's default ``0/1``."""
    done, _, total = str(text or "").partition("/")
    return (int(done), int(total)) if done.isdigit() and total.isdigit() and int(total) > 1 else None


def _stem(name: str) -> str:
    """Return the task's name in the file, without a loop's ``(0:item)``."""
    return name.partition("(")[0]


def _numbered(name: str) -> tuple[int, str]:
    number = name.partition("(")[2].partition(":")[0]
    return (int(number) if number.isdigit() else -1, name)


def attempts_of(workflow: Document) -> Iterator[tuple[FollowedTask, Attempt]]:
    """Yield every pod of a run with its task."""
    for task in tasks_of(workflow):
        for attempt in task.attempts:
            yield task, attempt
