"""What Kubeflow Pipelines cannot say of a workflow: the declared losses that the compiler prints.

Each loss is a kind with one sentence; :func:`found` tells which kinds a built workflow meets. Nothing is left out of a
translation silently: a field that no rule here knows is itself named as a loss.
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
"""Keys of a Secret that become environment variables; Kubeflow wants them one by one."""
MOUNTABLE = ("emptyDir", "persistentVolumeClaim", "secret", "configMap")
"""Kinds of volume that Kubeflow mounts."""
_TEMPLATE_FIELDS = {"activeDeadlineSeconds", "container", "inputs", "metadata", "name", "nodeSelector", "outputs",
                    "podSpecPatch", "retryStrategy", "securityContext", "serviceAccountName", "tolerations",
                    "volumes"}  # fmt: skip
_CONTAINER_FIELDS = {"args", "command", "env", "envFrom", "image", "imagePullPolicy", "name", "resources", "securityContext",
                     "volumeMounts"}  # fmt: skip
_SPEC_FIELDS = {"activeDeadlineSeconds", "archiveLogs", "arguments", "entrypoint", "imagePullSecrets", "onExit", "podGC",
                "podMetadata", "securityContext", "serviceAccountName", "templates", "ttlStrategy"}  # fmt: skip


@dataclass(frozen=True, order=True)
class Loss:
    """One thing that gets lost on Kubeflow."""

    kind: str
    """Short name, the same for every workflow."""
    words: str
    """What is lost, and what stands in its place."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


KINDS: dict[str, str] = {
    "accounts": "all steps run under one service account, chosen when a run is started; it needs the rights of mm1-supervisor "
    "when the pipeline trains",
    "artifact-store": "logs are kept where the Kubeflow installation keeps them, not by the workflow",
    "choices": "a parameter with a list of choices is a plain text in the form; the step itself checks it",
    "claims": "claims are mounted for reading and writing",
    "conditions": "steps with the same condition that depend on each other start together, once all that any of them waits for "
    "has ended",
    "exit-codes": "a failed step shows exit code 1 whatever it was; the outcome class is in the run record (mm1 runs)",
    "grace": "a stopped pod has Kubernetes' 30 s before it is killed, whatever the step asks for",
    "metrics": "metrics.json is a file of the step, not a table in the run's view",
    "pod-clean-up": "finished pods stay until the run is deleted or its time to live is over",
    "pod-metadata": "labels and annotations of the workflow itself",
    "pod-network": "of several extended resources of a container only one is asked for: GPUs where there are any",
    "pull-policy": "the pull policy of images is the cluster's default, with the pull secrets of the account",
    "read-only-root": "the root file system of a step can be written to",
    "retry": "every failure is repeated, also one that retrying cannot fix (the step then ends at once with the same outcome, "
    "--once), and a pod that the cluster lost is not; waits between repetitions have no upper limit",
    "secrets": f"of a Secret whose keys all become environment variables only these do: {', '.join(STORE_KEYS)}",
    "security": "seccomp profile, dropped capabilities and no privilege escalation are what the Kubeflow API server sets by "
    "default",
    "schedule": "the schedule; make a recurring run of the pipeline instead",
}
"""Kind -> words. ``field`` and ``volume`` are made where they are found."""


def found(document: Document) -> list[Loss]:
    """The losses of a built workflow, each kind once, sorted."""
    spec = spec_of(document)
    bodies = [body for body in spec.get("templates") or [] if "container" in body]
    kinds = {kind for kind, meets in _WORKFLOW_RULES.items() if meets(document, spec)}
    kinds |= {kind for kind, meets in _TEMPLATE_RULES.items() if any(meets(body) for body in bodies)}
    return sorted({Loss(kind, KINDS[kind]) for kind in kinds} | {*_fields(spec, bodies)} | {*_volumes(bodies)})


def _fields(spec: Body, bodies: list[Body]) -> Iterator[Loss]:
    unknown = spec.keys() - _SPEC_FIELDS
    for body in bodies:
        unknown |= (body.keys() - _TEMPLATE_FIELDS) | (body["container"].keys() - _CONTAINER_FIELDS)
    yield from (Loss(f"field {name}", "Kubeflow has no place for it") for name in unknown)


def _volumes(bodies: list[Body]) -> Iterator[Loss]:
    for body in bodies:
        for volume in body.get("volumes") or []:
            if not any(kind in volume for kind in MOUNTABLE):
                yield Loss(f"volume {volume['name']}", f"Kubeflow mounts only {', '.join(MOUNTABLE)}")


def _conditional(document: Document, spec: Body) -> bool:
    tasks = read_workflow(document).tasks
    return any(task.when and any(tasks[other].when for other in task.depends) for task in tasks.values())


def _context(body: Body, field: str) -> bool:
    return (body["container"].get("securityContext") or {}).get(field) is not None


def _extended(body: Body) -> list[str]:
    limits = (body["container"].get("resources") or {}).get("limits") or {}
    return [name for name in limits if name not in ("cpu", "memory")]


def accelerator_of(body: Body) -> str:
    """The one extended resource of a container that Kubeflow can ask for; empty when it has none."""
    names = _extended(body)
    return GPU_RESOURCE if GPU_RESOURCE in names else next(iter(sorted(names)), "")


_WORKFLOW_RULES: dict[str, Callable[[Document, Body], bool]] = {
    "accounts": lambda _, spec: bool(spec.get("serviceAccountName")),
    "artifact-store": lambda _, spec: spec.get("archiveLogs") is not None,
    "choices": lambda _, spec: any(raw.get("enum") for raw in parameters_of(spec)),
    "conditions": _conditional,
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
    "pull-policy": lambda body: bool(body["container"].get("imagePullPolicy")),
    "read-only-root": lambda body: _context(body, "readOnlyRootFilesystem"),
    "retry": lambda body: bool((body.get("retryStrategy") or {}).get("expression")),
    "secrets": lambda body: bool(body["container"].get("envFrom")),
    "security": lambda body: _context(body, "capabilities") or _context(body, "allowPrivilegeEscalation"),
}
