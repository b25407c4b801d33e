"""A built workflow as plain data, and access to its fields.

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
"""File in which a task reports its progress (``done/total``), in every template."""
ITEM = "{{item}}"
LAUNCHES_ANNOTATION = "mm1.dev/launches"
"""Template annotation of a training step: the pool of its ranks on a cluster. The step's pod is then only a supervisor."""
WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
"""Argo's label on each pod with the name of its workflow."""
TEMPLATE_LABEL = "workflows.argoproj.io/workflow-template"
CRON_LABEL = "workflows.argoproj.io/cron-workflow"
"""Argo's labels on a workflow with the name of its WorkflowTemplate or CronWorkflow."""
STEP_LABEL = "mm1.dev/step"
"""Template label with the step of this project that it runs (and whose options it accepts); absent on others."""


def spec_of(document: Document) -> dict[str, Any]:
    """Return the workflow's spec; for a CronWorkflow, the spec of its workflows."""
    spec = document.get("spec") or {}
    return spec.get("workflowSpec") or {} if document.get("kind") == "CronWorkflow" else spec


def name_of(document: Document) -> str:
    """Return the name of a workflow, or the stem of its generated name."""
    metadata = document.get("metadata") or {}
    return str(metadata.get("name") or metadata.get("generateName") or "workflow").rstrip("-")


def parameters_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a workflow's spec."""
    return (spec.get("arguments") or {}).get("parameters") or []


def inputs_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the input parameters of a template's plain data."""
    return (body.get("inputs") or {}).get("parameters") or []


def pod_patch(body: dict[str, Any]) -> dict[str, Any]:
    """Parse a template's ``podSpecPatch``, which is JSON or YAML.

    Raises:
        ConfigurationError: it is neither, or not a map.
    """
    try:
        patch = yaml.safe_load(body.get("podSpecPatch") or "{}")
    except (yaml.YAMLError, ValueError):
        patch = None
    if not isinstance(patch, dict):
        raise ConfigurationError(f"expected a map as JSON or YAML, got {body['podSpecPatch']!r}")
    return patch


def grace_of(body: dict[str, Any], default_s: float = 30.0) -> float:
    """Return the termination grace period in seconds; Kubernetes' default if the template does not set it.

    Raises:
        ConfigurationError: the pod patch cannot be parsed.
    """
    seconds = pod_patch(body).get("terminationGracePeriodSeconds", default_s)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"terminationGracePeriodSeconds: expected a number, got {seconds!r}")
    return float(seconds)


def arguments_of(raw: dict[str, Any]) -> dict[str, str]:
    """Return the arguments of a task's plain data."""
    parameters = (raw.get("arguments") or {}).get("parameters") or []
    return {parameter["name"]: text_of(parameter.get("value")) or "" for parameter in parameters}


def loop_of(raw: dict[str, Any]) -> str | None:
    """Return the list that a task loops over, as JSON or as a reference."""
    if raw.get("withItems") is not None:
        return json.dumps([text_of(item) for item in raw["withItems"]])
    return text_of(raw.get("withParam"))


def exit_template_name(spec: dict[str, Any], bodies: dict[str, Any]) -> str:
    """Return the container template of the exit handler, which may be the only task of a DAG; empty without an exit handler."""
    name: str = spec.get("onExit") or ""
    body = bodies.get(name, {})
    return body["dag"]["tasks"][0]["template"] if "dag" in body else name


def text_of(value: Any) -> str | None:
    """Format a YAML scalar as engines pass it; None stays None."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
