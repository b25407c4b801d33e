"""Properties of a workflow that Kubeflow Pipelines cannot express: the declared losses, printed by the compiler.

Each kind of loss has a description; :func:`losses_of` returns the losses of a built workflow. Nothing is omitted from a
translation silently: an unknown field is also reported as a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mm1_components.wrapper.pools import GPU_RESOURCE
from mm1_workflows.argo.document import Document, parameters_of, spec_of
from mm1_workflows.rules.reading import read_workflow

Body = dict[str, Any]

STORE_KEYS = (
    "S3_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
)
"""Keys of a Secret that become environment variables; Kubeflow requires a list of keys."""
MOUNTABLE = ("emptyDir", "persistentVolumeClaim", "secret", "configMap")
"""Kinds of volumes that Kubeflow can mount."""
_TEMPLATE_FIELDS = {"activeDeadlineSeconds", "container", "inputs", "metadata", "name", "nodeSelector", "outputs",
                    "podSpecPatch", "retryStrategy", "securityContext", "serviceAccountName", "tolerations",
                    "volumes"}  # fmt: skip
_CONTAINER_FIELDS = {"args", "command", "env", "envFrom", "image", "imagePullPolicy", "name", "ports", "resources",
                     "securityContext", "volumeMounts"}  # fmt: skip
_SPEC_FIELDS = {"activeDeadlineSeconds", "archiveLogs", "arguments", "entrypoint", "imagePullSecrets", "onExit", "podGC",
                "podMetadata", "securityContext", "serviceAccountName", "templates", "ttlStrategy"}  # fmt: skip


@dataclass(frozen=True, order=True)
class Loss:
    """A property that is lost on Kubeflow."""

    kind: str
    """Short name, the same for every workflow."""
    text: str
    """Description of the loss and of Kubeflow's behaviour instead."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


KINDS: dict[str, str] = {
    "accounts": "all steps use one service account, chosen when a run is started; it needs the permissions of mm1-supervisor "
    "if the pipeline trains, and those of mm1-rollout if it has a rollout on a cluster",
    "artifact-store": "logs are kept by the Kubeflow installation, not by the workflow",
    "choices": "a parameter with choices is a text field in the form; the step checks the value",
    "claims": "claims are mounted read-write",
    "conditions": "steps with the same condition that depend on each other start together, after all their dependencies",
    "exit-codes": "a failed step always has exit code 1; the outcome class is in the run record (mm1 runs)",
    "exit-status": "after a loop, Kubeflow 2.16 and later give the exit task the status RUNNING (kubeflow/pipelines#13321); "
    "the state of the run is in the run records (mm1 runs)",
    "fail-fast": "after a failure, tasks that do not depend on it may not be started, either (failFast: false is lost)",
    "grace": "the grace period of a pod is Kubernetes' default of 30 s, not that of the step",
    "metrics": "metrics.json is a file of the step, not a table in the run's view",
    "pod-clean-up": "finished pods are kept until the run is deleted or its time to live expires",
    "pod-metadata": "labels and annotations of the workflow are lost",
    "pod-network": "only one extended resource of a container is requested: GPUs if it has any",
    "ports": "ports of a container are not declared, so a PodMonitor does not find the metrics of a training",
    "pull-policy": "images are pulled with the cluster's default policy and the pull secrets of the service account",
    "read-only-root": "the root file system of a step is writable",
    "retry": "every failure is retried, even if a retry cannot fix it (the step then exits at once with the same outcome, "
    "--once), but a pod that the cluster lost is not; the wait between retries has no maximum",
    "secrets": f"of a Secret whose keys all become environment variables, only these do: {', '.join(STORE_KEYS)}",
    "security": "seccomp profile, dropped capabilities and privilege escalation are the defaults of the Kubeflow API server",
    "schedule": "the schedule is lost; create a recurring run of the pipeline instead",
}
"""Kind -> description; the kinds ``field`` and ``volume`` are generated."""


def losses_of(document: Document) -> list[Loss]:
    """Return the losses of a built workflow, each kind once, sorted."""
    spec = spec_of(document)
    bodies = [body for body in spec.get("templates") or [] if "container" in body]
    kinds = {kind for kind, meets in _WORKFLOW_RULES.items() if meets(document, spec)}
    kinds |= {kind for kind, meets in _TEMPLATE_RULES.items() if any(meets(body) for body in bodies)}
    return sorted({Loss(kind, KINDS[kind]) for kind in kinds} | {*_fields(spec, bodies)} | {*_volumes(bodies)})


def _fields(spec: Body, bodies: list[Body]) -> Iterator[Loss]:
    unknown = spec.keys() - _SPEC_FIELDS
    for body in bodies:
        unknown |= (body.keys() - _TEMPLATE_FIELDS) | (body["container"].keys() - _CONTAINER_FIELDS)
    yield from (Loss(f"field {name}", "Kubeflow has no such field") for name in unknown)


def _volumes(bodies: list[Body]) -> Iterator[Loss]:
    for body in bodies:
        for volume in body.get("volumes") or []:
            if not any(kind in volume for kind in MOUNTABLE):
                yield Loss(f"volume {volume['name']}", f"Kubeflow only mounts {', '.join(MOUNTABLE)}")


def _conditional(document: Document, spec: Body) -> bool:
    tasks = read_workflow(document).tasks
    return any(task.when and any(tasks[other].when for other in task.depends) for task in tasks.values())


def _loop_before_exit(document: Document, spec: Body) -> bool:
    return bool(spec.get("onExit")) and any(task.loop is not None for task in read_workflow(document).tasks.values())


def _context(body: Body, field: str) -> bool:
    return (body["container"].get("securityContext") or {}).get(field) is not None


def _extended(body: Body) -> list[str]:
    limits = (body["container"].get("resources") or {}).get("limits") or {}
    return [name for name in limits if name not in ("cpu", "memory")]


def accelerator_of(body: Body) -> str:
    """Return the extended resource of a container that Kubeflow requests; empty if it has none."""
    names = _extended(body)
    return GPU_RESOURCE if GPU_RESOURCE in names else next(iter(sorted(names)), "")


_WORKFLOW_RULES: dict[str, Callable[[Document, Body], bool]] = {
    "accounts": lambda _, spec: bool(spec.get("serviceAccountName")),
    "artifact-store": lambda _, spec: spec.get("archiveLogs") is not None,
    "choices": lambda _, spec: any(raw.get("enum") for raw in parameters_of(spec)),
    "conditions": _conditional,
    "exit-status": _loop_before_exit,
    "fail-fast": lambda _, spec: any((body.get("dag") or {}).get("failFast") is False for body in spec.get("templates") or []),
    "pod-clean-up": lambda _, spec: bool(spec.get("podGC")),
    "pod-metadata": lambda document, spec: bool(
        (document.get("metadata") or {}).keys() & {"labels", "annotations"} or spec.get("podMetadata")
    ),
    "pull-policy": lambda _, spec: bool(spec.get("imagePullSecrets")),
    "schedule": lambda document, _: document.get("kind") == "CronWorkflow",
    "security": lambda _, spec: bool((spec.get("securityContext") or {}).get("seccompProfile")),
}
_TEMPLATE_RULES: dict[str, Callable[[Body], bool]] = {
    "accounts": lambda body: bool(body.get("serviceAccountName")),
    "claims": lambda body: (
        any((raw.get("persistentVolumeClaim") or {}).get("readOnly") for raw in body.get("volumes") or [])
        or any(raw.get("readOnly") for raw in body["container"].get("volumeMounts") or [])
    ),
    "exit-codes": lambda body: True,
    "grace": lambda body: bool(body.get("podSpecPatch")),
    "metrics": lambda body: any(
        raw["path"].endswith("metrics.json") for raw in (body.get("outputs") or {}).get("artifacts") or []
    ),
    "pod-network": lambda body: len(_extended(body)) > 1,
    "ports": lambda body: bool(body["container"].get("ports")),
    "pull-policy": lambda body: bool(body["container"].get("imagePullPolicy")),
    "read-only-root": lambda body: _context(body, "readOnlyRootFilesystem"),
    "retry": lambda body: bool((body.get("retryStrategy") or {}).get("expression")),
    "secrets": lambda body: bool(body["container"].get("envFrom")),
    "security": lambda body: _context(body, "capabilities") or _context(body, "allowPrivilegeEscalation"),
}
