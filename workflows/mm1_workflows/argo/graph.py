r"""The graph of a built workflow: tasks, argv, edges, conditions, loops, retries, exit task.

::

    Hera file --build()--> \
                            Document --> rules.reading --> Graph --> local runner, policy, other engines
    YAML file -----------> /

Reading imports neither Hera nor torch. A workflow outside the subset that all engines support is rejected, nothing is ignored
(:mod:`mm1_workflows.rules.reading`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Any

from mm1_components.wrapper.pools import POOL_LABEL
from mm1_workflows.argo.conditions import Condition, parse_condition
from mm1_workflows.argo.document import (
    INPUTS_ANNOTATION,
    LAUNCHES_ANNOTATION,
    STEP_LABEL,
    Document,
    InputType,
    arguments_of,
    grace_of,
    inputs_of,
    loop_of,
    name_of,
    parameters_of,
    spec_of,
    text_of,
)
from mm1_workflows.argo.expressions import parse_depends
from mm1_workflows.argo.retries import Retry, read_retry


@dataclass(frozen=True)
class Template:
    """A container template."""

    name: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    image: str
    inputs: dict[str, str | None] = field(default_factory=dict)
    """Input -> default; None = required."""
    input_types: dict[str, InputType] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    """Output parameter -> its file."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Output artifact -> file."""
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    """Mount paths of volumes from outside the pod: claims, secrets, folders of the node."""
    pool: str = "cpu"
    launches: str = ""
    """Pool of the ranks that the step starts; empty if it starts none."""
    step: str = ""
    """Step of this project that it runs; empty for other containers."""
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    grace_s: float = 30.0

    @property
    def argv(self) -> tuple[str, ...]:
        """Command and arguments, including references."""
        return self.command + self.args


@dataclass(frozen=True)
class TaskNode:
    """A task of the graph."""

    name: str
    template: Template
    arguments: dict[str, str]
    depends: tuple[str, ...] = ()
    when: Condition | None = None
    loop: str | None = None
    """A JSON list of strings, or a reference to one."""


@dataclass(frozen=True)
class WorkflowParameter:
    """A parameter of the workflow."""

    name: str
    value: str | None
    """Default; None = must be given."""
    description: str = ""
    type: InputType = "text"
    choices: tuple[str, ...] = ()
    """Allowed values (Argo's `enum`); empty = any."""


@dataclass(frozen=True)
class Graph:
    """A workflow: one DAG of container templates, and optionally an exit task."""

    name: str
    """The workflow's name or the stem of its generated name."""
    parameters: dict[str, WorkflowParameter]
    tasks: dict[str, TaskNode]
    """In topological order."""
    on_exit: TaskNode | None = None
    timeout_s: float | None = None
    """Time limit of a run, which its exit task may exceed; None = no limit."""
    fail_fast: bool = True
    """Whether no task starts after a failure; otherwise only those that depend on the failed one do not."""
    parallelism: int | None = None
    """Maximum number of tasks that run at the same time; None = no limit."""


def graph_of(document: Document) -> Graph:
    """Return the graph of a document within the subset; :func:`mm1_workflows.rules.reading.read_workflow` checks it first."""
    spec = spec_of(document)
    bodies = {body["name"]: body for body in spec["templates"]}
    volumes = spec.get("volumes") or []
    containers = {name: read_template(body, volumes) for name, body in bodies.items() if "container" in body}
    dag = bodies[spec["entrypoint"]]["dag"]
    tasks = [_task(raw, containers) for raw in dag["tasks"]]
    on_exit = _exit_task(spec, bodies, containers)
    types = parameter_types([*tasks, *([on_exit] if on_exit else [])])
    parameters = {raw["name"]: read_parameter(raw, types.get(raw["name"], {})) for raw in parameters_of(spec)}
    limit = spec.get("activeDeadlineSeconds")
    timeout_s = None if limit is None else float(limit)
    return Graph(
        name_of(document),
        parameters,
        _ordered(tasks),
        on_exit,
        timeout_s,
        fail_fast=dag.get("failFast") is not False,
        parallelism=spec.get("parallelism"),
    )


def read_template(body: dict[str, Any], volumes: Sequence[dict[str, Any]] = ()) -> Template:
    """Read a container template from its plain data.

    Args:
        body: the template.
        volumes: volumes of the workflow, which all its templates may mount.
    """
    container = body["container"]
    metadata = body.get("metadata") or {}
    labels = metadata.get("labels") or {}
    outputs = body.get("outputs") or {}
    timeout = body.get("activeDeadlineSeconds")
    return Template(
        name=body["name"],
        command=tuple(container.get("command") or ()),
        args=tuple(map(str, container.get("args") or ())),
        image=container.get("image", ""),
        inputs={raw["name"]: text_of(raw.get("value", raw.get("default"))) for raw in inputs_of(body)},
        input_types=json.loads((metadata.get("annotations") or {}).get(INPUTS_ANNOTATION, "{}")),
        outputs={raw["name"]: raw["valueFrom"]["path"] for raw in outputs.get("parameters") or []},
        artifacts={raw["name"]: raw["path"] for raw in outputs.get("artifacts") or []},
        env={raw["name"]: str(raw["value"]) for raw in container.get("env") or [] if "value" in raw},
        mounts=_mounts(body, volumes),
        pool=labels.get(POOL_LABEL, "cpu"),
        launches=(metadata.get("annotations") or {}).get(LAUNCHES_ANNOTATION, ""),
        step=labels.get(STEP_LABEL, ""),
        retry=read_retry(body.get("retryStrategy")),
        timeout_s=None if timeout is None else float(timeout),
        grace_s=grace_of(body),
    )


def _mounts(body: dict[str, Any], volumes: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    known = {volume["name"]: volume for volume in [*volumes, *(body.get("volumes") or [])]}
    mounts = body["container"].get("volumeMounts") or []
    return tuple(mount["mountPath"] for mount in mounts if "emptyDir" not in known.get(mount["name"], {"emptyDir": {}}))


def parameter_types(tasks: list[TaskNode]) -> dict[str, dict[str, InputType]]:
    """Return the types of workflow parameters: parameter -> input that it is passed to (``template.input``) -> type."""
    types: dict[str, dict[str, InputType]] = {}
    for task in tasks:
        for name, value in task.arguments.items():
            parameter = value.removeprefix("{{workflow.parameters.").removesuffix("}}")
            if value == f"{{{{workflow.parameters.{parameter}}}}}" and name in task.template.input_types:
                types.setdefault(parameter, {})[f"{task.template.name}.{name}"] = task.template.input_types[name]
    return types


def common_type(types: list[InputType]) -> InputType | None:
    """Return the type of a parameter that is passed to inputs of these types; None if they conflict.

    The address of a manifest is also a source, so a parameter that is passed to both is a manifest.
    """
    distinct = [kind for number, kind in enumerate(types) if kind not in types[:number]]
    if len(distinct) == 1:
        return distinct[0]
    return "manifest" if sorted(map(str, distinct)) == ["manifest", "source"] else None


def read_parameter(raw: dict[str, Any], types: Mapping[str, InputType] = MappingProxyType({})) -> WorkflowParameter:
    """Read a workflow parameter from its plain data.

    Args:
        raw: the parameter.
        types: input that it is passed to -> type.
    """
    kind = common_type(list(types.values())) or "text"
    choices = tuple(text_of(choice) or "" for choice in raw.get("enum") or [])
    return WorkflowParameter(raw["name"], text_of(raw.get("value")), raw.get("description", ""), kind, choices)


def _task(raw: dict[str, Any], containers: dict[str, Template]) -> TaskNode:
    return TaskNode(
        name=raw["name"],
        template=containers[raw["template"]],
        arguments=arguments_of(raw),
        depends=tuple(parse_depends(raw.get("depends") or "") or ()),
        when=parse_condition(raw["when"]) if raw.get("when") else None,
        loop=loop_of(raw),
    )


def _exit_task(spec: dict[str, Any], bodies: dict[str, Any], containers: dict[str, Template]) -> TaskNode | None:
    if not spec.get("onExit"):
        return None
    body = bodies[spec["onExit"]]
    if "dag" in body:
        return _task(body["dag"]["tasks"][0], containers)
    return TaskNode(body["name"], containers[body["name"]], {})


def _ordered(tasks: list[TaskNode]) -> dict[str, TaskNode]:
    by_name = {task.name: task for task in tasks}
    order = TopologicalSorter({task.name: task.depends for task in tasks}).static_order()
    return {name: by_name[name] for name in order}
