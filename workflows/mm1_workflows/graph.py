r"""The one reading of a built workflow: tasks, argv, edges, conditions, loops, retry, exit task.

::

    Hera file --build()--> \
                            Argo object as plain data --read()--> Graph --> local runner, policy, other engines
    YAML file -----------> /

Reading needs neither hera nor torch. What is outside the subset that all engines understand (:mod:`mm1_workflows.subset`) is
refused, never ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from mm1.errors import ConfigurationError
from mm1_components.pools import POOL_LABEL
from mm1_workflows.expressions import Condition, parse_condition, parse_depends, parse_duration, retry_codes
from mm1_workflows.findings import PolicyError

INPUTS_ANNOTATION = "mm1.dev/inputs"
"""Template annotation: input -> type (text, integer, number, boolean, source, manifest, or a list of choices), as JSON."""
TASK_INPUT = "task"
"""Template input that carries the task's name to the step."""
PROGRESS_FILE = "/var/run/argo/progress"
"""Where a task says how far it is (``done/total``), in every template."""
ITEM = "{{item}}"
LAUNCHES_ANNOTATION = "mm1.dev/launches"
"""Template annotation of a step that trains: pool of its ranks on a cluster. The step's own pod is then a light supervisor."""
STEP_LABEL = "mm1.dev/step"
"""Template label: the step of this project that it runs (and whose options it knows); absent on others."""

Document = dict[str, Any]
InputType = str | list[str]


@dataclass(frozen=True)
class Retry:
    """How often, after which exit codes, and after what wait a task is started again."""

    limit: int = 0
    codes: frozenset[int] = frozenset()
    wait_s: float = 0.0
    factor: float = 1.0
    max_wait_s: float = 600.0

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before an attempt (the first one after a failure is attempt 1)."""
        return min(self.wait_s * self.factor ** (attempt - 1), self.max_wait_s)


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
    """Output parameter -> file that it is read from."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Output artifact -> file."""
    env: dict[str, str] = field(default_factory=dict)
    pool: str = "cpu"
    launches: str = ""
    """Pool that the step starts ranks on; empty: it does its work itself."""
    step: str = ""
    """Step of this project that it runs; empty for others."""
    retry: Retry = Retry()
    timeout_s: float | None = None
    grace_s: float = 30.0

    @property
    def argv(self) -> tuple[str, ...]:
        """Command and arguments, with references."""
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


@dataclass(frozen=True)
class Graph:
    """A workflow: one DAG of container templates, and perhaps one task at its end."""

    name: str
    """The workflow's name or the stem of its generated name."""
    parameters: dict[str, WorkflowParameter]
    tasks: dict[str, TaskNode]
    """In an order in which every task comes after those that it depends on."""
    on_exit: TaskNode | None = None


def spec_of(document: Document) -> dict[str, Any]:
    """The workflow's spec, of a CronWorkflow that of its workflows."""
    spec = document.get("spec") or {}
    return spec.get("workflowSpec") or {} if document.get("kind") == "CronWorkflow" else spec


def name_of(document: Document) -> str:
    """Name of a workflow, or the stem of the name that the engine makes."""
    metadata = document.get("metadata") or {}
    return str(metadata.get("name") or metadata.get("generateName") or "workflow").rstrip("-")


def read(document: Document) -> Graph:
    """Read a built workflow.

    Args:
        document: the Argo object as plain data (``Workflow.to_dict()``, or a YAML file).

    Raises:
        ConfigurationError: it is not a well-formed Argo object.
        PolicyError: it is outside the subset that all engines understand.
    """
    from mm1_workflows import subset  # it reads with this module's vocabulary

    try:
        findings = subset.check(document)
    except (AttributeError, KeyError, TypeError) as error:  # a YAML file with, say, a text where a list belongs
        raise ConfigurationError(f"not a well-formed Argo object ({type(error).__name__}: {error})") from error
    if findings:
        raise PolicyError(name_of(document), findings)
    spec = spec_of(document)
    bodies = {body["name"]: body for body in spec["templates"]}
    containers = {name: read_template(body) for name, body in bodies.items() if "container" in body}
    tasks = [_task(raw, containers) for raw in bodies[spec["entrypoint"]]["dag"]["tasks"]]
    on_exit = _exit_task(spec, bodies, containers)
    types = parameter_types([*tasks, *([on_exit] if on_exit else [])])
    parameters = {raw["name"]: _parameter(raw, types.get(raw["name"], {})) for raw in parameters_of(spec)}
    return Graph(name_of(document), parameters, _ordered(tasks), on_exit)


def read_template(body: dict[str, Any]) -> Template:
    """A container template from its plain data."""
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
        inputs={raw["name"]: _text(raw.get("value", raw.get("default"))) for raw in inputs_of(body)},
        input_types=json.loads((metadata.get("annotations") or {}).get(INPUTS_ANNOTATION, "{}")),
        outputs={raw["name"]: raw["valueFrom"]["path"] for raw in outputs.get("parameters") or []},
        artifacts={raw["name"]: raw["path"] for raw in outputs.get("artifacts") or []},
        env={raw["name"]: str(raw["value"]) for raw in container.get("env") or [] if "value" in raw},
        pool=labels.get(POOL_LABEL, "cpu"),
        launches=(metadata.get("annotations") or {}).get(LAUNCHES_ANNOTATION, ""),
        step=labels.get(STEP_LABEL, ""),
        retry=_retry(body.get("retryStrategy")),
        timeout_s=None if timeout is None else float(timeout),
        grace_s=grace_of(body),
    )


def parameters_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a workflow's spec."""
    return (spec.get("arguments") or {}).get("parameters") or []


def inputs_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The input parameters of a template's plain data."""
    return (body.get("inputs") or {}).get("parameters") or []


def grace_of(body: dict[str, Any], default_s: float = 30.0) -> float:
    """Seconds between SIGTERM and SIGKILL; Kubernetes' own default when the template says nothing."""
    patch = json.loads(body.get("podSpecPatch") or "{}")
    return float(patch.get("terminationGracePeriodSeconds", default_s))


def arguments_of(raw: dict[str, Any]) -> dict[str, str]:
    """The arguments of a task's plain data."""
    parameters = (raw.get("arguments") or {}).get("parameters") or []
    return {parameter["name"]: _text(parameter.get("value")) or "" for parameter in parameters}


def loop_of(raw: dict[str, Any]) -> str | None:
    """The list that a task is repeated over, as JSON or a reference."""
    if raw.get("withItems") is not None:
        return json.dumps([_text(item) for item in raw["withItems"]])
    return _text(raw.get("withParam"))


def exit_template_name(spec: dict[str, Any], bodies: dict[str, Any]) -> str:
    """The container template that runs at the end: named directly, or by the only task of a DAG; empty when there is none."""
    name: str = spec.get("onExit") or ""
    body = bodies.get(name, {})
    return body["dag"]["tasks"][0]["template"] if "dag" in body else name


def parameter_types(tasks: list[TaskNode]) -> dict[str, dict[str, InputType]]:
    """Workflow parameter -> the inputs that it feeds as it is (``template.input``) -> their type."""
    found: dict[str, dict[str, InputType]] = {}
    for task in tasks:
        for name, value in task.arguments.items():
            parameter = value.removeprefix("{{workflow.parameters.").removesuffix("}}")
            if value == f"{{{{workflow.parameters.{parameter}}}}}" and name in task.template.input_types:
                found.setdefault(parameter, {})[f"{task.template.name}.{name}"] = task.template.input_types[name]
    return found


def common_type(types: list[InputType]) -> InputType | None:
    """The type of a parameter that feeds inputs of these types; None when they do not agree.

    A manifest's address is also a source, so a parameter that feeds both is a manifest.
    """
    different = [kind for number, kind in enumerate(types) if kind not in types[:number]]
    if len(different) == 1:
        return different[0]
    return "manifest" if sorted(map(str, different)) == ["manifest", "source"] else None


def _parameter(raw: dict[str, Any], types: dict[str, InputType]) -> WorkflowParameter:
    kind = common_type(list(types.values())) or "text"
    return WorkflowParameter(raw["name"], _text(raw.get("value")), raw.get("description", ""), kind)


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


def _retry(strategy: dict[str, Any] | None) -> Retry:
    if not strategy:
        return Retry()
    backoff = strategy.get("backoff") or {}
    return Retry(
        limit=int(strategy.get("limit") or 0),
        codes=retry_codes(strategy.get("expression")) or frozenset(),
        wait_s=parse_duration(backoff.get("duration")),
        factor=float(backoff.get("factor") or 1),
        max_wait_s=parse_duration(backoff.get("cap"), 600.0),
    )


def _ordered(tasks: list[TaskNode]) -> dict[str, TaskNode]:
    by_name = {task.name: task for task in tasks}
    order = TopologicalSorter({task.name: task.depends for task in tasks}).static_order()
    return {name: by_name[name] for name in order}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
