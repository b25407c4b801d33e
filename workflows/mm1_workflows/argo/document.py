"""A built workflow as plain data, and the one place that knows where its fields are.

A document is an Argo object (``Workflow.to_dict()``, or a YAML file): Workflow, WorkflowTemplate or CronWorkflow.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from mm1.errors import ConfigurationError

Document = dict[str, Any]
InputType = str | list[str]
INPUTS_ANNOTATION = "mm1.dev/inputs"
"""Template annotation: input -> type (text, integer, number, boolean, source, manifest, or a list of choices), as JSON."""
TASK_INPUT = "task"
"""Template input that carries the task's name to the step."""
PROGRESS_FILE = "/var/run/argo/progress"
"""Where a task says how far it is (``done/total``), in every template."""
ITEM = "{{item}}"
LAUNCHES_ANNOTATION = "mm1.dev/launches"
"""Template annotation of a step that trains: pool of its ranks on a cluster. The step's own pod is then a light supervisor."""
WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
"""Argo's label on each pod: the workflow that it belongs to."""
TEMPLATE_LABEL = "workflows.argoproj.io/workflow-template"
CRON_LABEL = "workflows.argoproj.io/cron-workflow"
"""Argo's labels on a workflow: the WorkflowTemplate or CronWorkflow that it comes from."""
STEP_LABEL = "mm1.dev/step"
"""Template label: the step of this project that it runs (and whose options it knows); absent on others."""


def spec_of(document: Document) -> dict[str, Any]:
    """The workflow's spec, of a CronWorkflow that of its workflows."""
    spec = document.get("spec") or {}
    return spec.get("workflowSpec") or {} if document.get("kind") == "CronWorkflow" else spec


def name_of(document: Document) -> str:
    """Name of a workflow, or the stem of the name that the engine makes."""
    metadata = document.get("metadata") or {}
    return str(metadata.get("name") or metadata.get("generateName") or "workflow").rstrip("-")


def parameters_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a workflow's spec."""
    return (spec.get("arguments") or {}).get("parameters") or []


def inputs_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The input parameters of a template's plain data."""
    return (body.get("inputs") or {}).get("parameters") or []


def pod_patch(body: dict[str, Any]) -> dict[str, Any]:
    """What a template's ``podSpecPatch``, which is JSON or YAML, changes of its pods.

    Raises:
        ConfigurationError: it is neither, or no map.
    """
    try:
        patch = yaml.safe_load(body.get("podSpecPatch") or "{}")
    except (yaml.YAMLError, ValueError):
        patch = None
    if not isinstance(patch, dict):
        raise ConfigurationError(f"expected a map as JSON or YAML, got {body['podSpecPatch']!r}")
    return patch


def grace_of(body: dict[str, Any], default_s: float = 30.0) -> float:
    """Seconds between SIGTERM and SIGKILL; Kubernetes' own default when the template says nothing.

    Raises:
        ConfigurationError: the pod's patch cannot be read.
    """
    seconds = pod_patch(body).get("terminationGracePeriodSeconds", default_s)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"terminationGracePeriodSeconds: expected a number, got {seconds!r}")
    return float(seconds)


def arguments_of(raw: dict[str, Any]) -> dict[str, str]:
    """The arguments of a task's plain data."""
    parameters = (raw.get("arguments") or {}).get("parameters") or []
    return {parameter["name"]: text_of(parameter.get("value")) or "" for parameter in parameters}


def loop_of(raw: dict[str, Any]) -> str | None:
    """The list that a task is repeated over, as JSON or a reference."""
    if raw.get("withItems") is not None:
        return json.dumps([text_of(item) for item in raw["withItems"]])
    return text_of(raw.get("withParam"))


def exit_template_name(spec: dict[str, Any], bodies: dict[str, Any]) -> str:
    """The container template that runs at the end: named directly, or by the only task of a DAG; empty when there is none."""
    name: str = spec.get("onExit") or ""
    body = bodies.get(name, {})
    return body["dag"]["tasks"][0]["template"] if "dag" in body else name


def text_of(value: Any) -> str | None:
    """A scalar of YAML as engines pass it; None stays None."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
