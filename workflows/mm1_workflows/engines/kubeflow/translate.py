r"""Translation of a built Argo workflow to a Kubeflow Pipelines v2 pipeline.

::

    Hera file --build--> Argo object --read_workflow--> Graph --+--> components (one per task) --+
                              \------- pods of the templates -/    groups: exit handler, If,  +--> IR YAML, platform spec
                                                                    ParallelFor, .after       /

Every task becomes a container component with the task's name. Workflow parameters have the types of the inputs that they are
passed to. Connected tasks with the same condition become one ``If``, a looped task becomes a ``ParallelFor``, and an output of
a loop becomes ``Collected``. :mod:`mm1_workflows.engines.kubeflow.losses` lists what Kubeflow cannot express.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm1.errors import ConfigurationError
from mm1_workflows.argo import parameters
from mm1_workflows.argo.conditions import Condition
from mm1_workflows.argo.document import Document, spec_of
from mm1_workflows.argo.expressions import REFERENCE, TASK_OUTPUT
from mm1_workflows.argo.graph import Graph, TaskNode, WorkflowParameter
from mm1_workflows.engines.kubeflow import pods
from mm1_workflows.engines.kubeflow.component import RUN, STATUS, container_component, interface, set_signature
from mm1_workflows.engines.kubeflow.names import Names
from mm1_workflows.rules.reading import read_workflow

TYPES: dict[str, type] = {"integer": int, "number": float, "boolean": bool}
PARAMETER = "workflow.parameters."
UNLIMITED_S = 10 * 365 * 86_400
"""Duration of the retries of a run without a time limit: Kubeflow requires a number, and its default is an hour."""


def to_yaml(document: Document) -> str:
    """Return the pipeline's IR and platform spec, two YAML documents in one text.

    Raises:
        ConfigurationError: Kubeflow cannot run the workflow; the message has the task or template.
        PolicyError: it is outside the subset that all engines support.
    """
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline(document), str(path))
        return path.read_text()


def pipeline(document: Document) -> Any:
    """Return the pipeline as an object of the Kubeflow SDK (a ``GraphComponent``)."""
    return _Translation(document).pipeline()


class _Translation:
    """State of the translation of a workflow."""

    def __init__(self, document: Document) -> None:
        self.graph: Graph = read_workflow(document)
        self.spec = spec_of(document)
        self.bodies = {body["name"]: body for body in self.spec["templates"]}
        loops = [match[1] for task in self.graph.tasks.values() for match in [REFERENCE.fullmatch(task.loop or "")] if match]
        outputs = [match for loop in loops for match in [TASK_OUTPUT.match(loop)] if match]
        self.list_outputs = frozenset((match["task"], match["output"]) for match in outputs)
        self.list_parameters = {loop.removeprefix(PARAMETER) for loop in loops if loop.startswith(PARAMETER)}
        names = Names()
        self.parameter_names = {name: names.make(name) for name in self.graph.parameters}
        self.channels: dict[str, Any] = {}
        """Workflow parameter -> Kubeflow's channel, while the pipeline is being built."""
        self.outputs: dict[tuple[str, str], Any] = {}
        """(task, output) -> channel."""
        self.made: dict[str, Any] = {}
        """Task -> Kubeflow's task."""

    # -- the pipeline -------------------------------------------------------------------------------------------------

    def pipeline(self) -> Any:
        from kfp import dsl

        def body(*channels: Any) -> None:
            self.channels = dict(zip(self.graph.parameters, channels, strict=True))
            with self._at_exit():
                for condition, tasks in clusters(self.graph):
                    with self._if(condition):
                        for task in tasks:
                            self._task(task)

        signature = {
            self.parameter_names[name]: (self._parameter_type(name), self._default(parameter))
            for name, parameter in self.graph.parameters.items()
        }
        set_signature(body, self.graph.name.replace("-", "_"), signature)
        body.__doc__ = self._describe()
        config = dsl.PipelineConfig(
            ttl_seconds_after_finished=(self.spec.get("ttlStrategy") or {}).get("secondsAfterCompletion"),
            active_deadline_seconds=self.spec.get("activeDeadlineSeconds"),
        )
        return dsl.pipeline(name=self.graph.name, pipeline_config=config)(body)

    def _describe(self) -> str:
        lines = [f"    {self.parameter_names[name]}: {_line(parameter)}" for name, parameter in self.graph.parameters.items()]
        return f"{self.graph.name}\n\nArgs:\n" + "\n".join(lines)

    def _parameter_type(self, name: str) -> type:
        if name in self.list_parameters:
            return list
        kind = self.graph.parameters[name].type
        return TYPES.get(kind, str) if isinstance(kind, str) else str

    def _default(self, parameter: WorkflowParameter) -> Any:
        kind = self._parameter_type(parameter.name)
        if parameter.value is None:
            return inspect.Parameter.empty
        if complaint := parameters.mismatch(parameter.value, parameter.type):
            raise ConfigurationError(
                f"parameter {parameter.name}: expected {complaint} as the default, got {parameter.value!r}"
            )
        if kind is list:
            return json.loads(parameter.value)
        return parameter.value.lower() == "true" if kind is bool else kind(parameter.value)

    @contextlib.contextmanager
    def _at_exit(self) -> Iterator[None]:
        from kfp import dsl

        if self.graph.on_exit is None:
            yield
            return
        with dsl.ExitHandler(self._instance(self.graph.on_exit, None), name="at-exit"):
            yield

    @contextlib.contextmanager
    def _if(self, condition: Condition | None) -> Iterator[None]:
        from kfp import dsl

        if condition is None:
            yield
            return
        task, key = self.graph.tasks[condition.task], (condition.task, condition.output)
        if task.loop is not None or key in self.list_outputs:
            raise ConfigurationError(f"when: expected text to compare, but {condition.task}.{condition.output} is a list")
        left = self.outputs[key]
        holds = left == condition.literal if condition.operator == "==" else left != condition.literal
        with dsl.If(holds, name=f"{condition.task}-{condition.output}"):
            yield

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _task(self, task: TaskNode) -> None:
        from kfp import dsl

        if task.loop is None:
            made = self._instance(task, None)
        else:
            items = self._items(task, task.loop)
            with dsl.ParallelFor(items, name=task.name) as item:
                made = self._instance(task, item)
        made.after(*(self.made[other] for other in task.depends))
        self.made[task.name] = made

    def _items(self, task: TaskNode, loop: str) -> Any:
        if match := REFERENCE.fullmatch(loop):
            return self._channel(match[1], None)
        if items := json.loads(loop):
            return items
        raise ConfigurationError(
            f"task {task.name}: expected a non-empty list to loop over (Kubeflow does not allow empty loops)"
        )

    def _instance(self, task: TaskNode, item: Any) -> Any:
        made = interface(task, repeated=task.template.retry.limit > 0)
        component = container_component(task, made, self._type_of, self.list_outputs)
        values = {name: self._value(value, item) for name, value in made.inputs.items() if not _is(value, STATUS)}
        instance = component(**values)
        if instance.name != task.name:
            instance.set_display_name(task.name)
        run_seconds = int(self.spec.get("activeDeadlineSeconds") or UNLIMITED_S)
        pods.configure(instance, task.template, self.bodies[task.template.name], run_seconds)
        self.outputs |= {(task.name, name): instance.outputs[own] for name, own in made.outputs.items()}
        return instance

    def _value(self, value: str, item: Any) -> Any:
        match = REFERENCE.fullmatch(value)
        return self._channel(match[1], item) if match else value

    def _channel(self, reference: str, item: Any) -> Any:
        from kfp import dsl

        if match := TASK_OUTPUT.match(reference):
            channel = self.outputs[match["task"], match["output"]]
            return channel if self.graph.tasks[match["task"]].loop is None else dsl.Collected(channel)
        if reference == "item":
            return item
        # the name of the run's Argo workflow in the cluster, not its display name
        return (
            dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER if reference == RUN else self.channels[reference.removeprefix(PARAMETER)]
        )

    def _type_of(self, value: str) -> Any:
        from kfp import dsl

        match = REFERENCE.fullmatch(value)
        if not match:
            return str
        if _is(value, STATUS):
            return dsl.PipelineTaskFinalStatus
        if output := TASK_OUTPUT.match(match[1]):
            key = (output["task"], output["output"])
            return list if key in self.list_outputs or self.graph.tasks[key[0]].loop is not None else str
        return self._parameter_type(match[1].removeprefix(PARAMETER)) if match[1].startswith(PARAMETER) else str


def clusters(workflow: Graph) -> list[tuple[Condition | None, list[TaskNode]]]:
    """Group tasks by condition: first those without one, then each connected set of conditional tasks, in topological order.

    A task without the condition cannot depend on a conditional task (rule P006), so the sets come last, in any order.
    """
    groups: list[tuple[Condition | None, list[TaskNode]]] = [(None, [])]
    for task in workflow.tasks.values():
        if task.when is None:
            groups[0][1].append(task)
            continue
        before = [cluster for cluster in groups[1:] if any(other.name in task.depends for other in cluster[1])]
        joined = [other for cluster in before for other in cluster[1]]
        groups = [cluster for cluster in groups if cluster not in before] + [(task.when, [*joined, task])]
    return [cluster for cluster in groups if cluster[1]]


def _is(value: str, reference: str) -> bool:
    match = REFERENCE.fullmatch(value)
    return bool(match and match[1] == reference)


def _line(parameter: WorkflowParameter) -> str:
    kind = "|".join(parameter.type) if isinstance(parameter.type, list) else parameter.type
    return f"{parameter.description} [{kind}]".strip().replace("\n", " ")
