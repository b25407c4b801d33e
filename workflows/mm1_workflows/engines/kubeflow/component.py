"""A task of a workflow as a Kubeflow container component with the same argv, using Kubeflow's placeholders.

A task passes text to the inputs of an Argo template. The text may refer to parameters, outputs, the loop's item, the run and
the status. Kubeflow substitutes values in an argv once and in no particular order, so a value must not contain a placeholder.
Text that mixes words and references is therefore expanded in the argv, with one component input per reference::

    --reports={{inputs.parameters.reports}}      reports = "{{tasks.a.outputs.parameters.m}} {{tasks.b.outputs.parameters.m}}"
    --reports={{$.inputs.parameters['a_m']}} {{$.inputs.parameters['b_m']}}

An Argo template has fixed paths for outputs, Kubeflow generates them: its placeholder replaces the path in the argv.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mm1.errors import ConfigurationError
from mm1_workflows.argo.expressions import REFERENCE, TASK_OUTPUT, references, substitute
from mm1_workflows.argo.graph import TaskNode
from mm1_workflows.engines.kubeflow.names import Names

RUN = "workflow.name"
STATUS = "workflow.status"
ONCE = "--once"
"""Option of this project's steps: exit immediately if the task already failed permanently."""


@dataclass
class Interface:
    """Inputs, outputs and argv of a component."""

    inputs: dict[str, str] = field(default_factory=dict)
    """Input -> value: a reference with braces, or plain text."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Argo's name of an output parameter -> Kubeflow's."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Argo's name of an artifact -> Kubeflow's."""
    argv: tuple[str, ...] = ()
    """Command and arguments with references to inputs as ``{{input.<name>}}``, outputs ``{{output.<name>}}``."""
    command_length: int = 0


def interface(task: TaskNode, *, repeated: bool) -> Interface:
    """Return the interface of the component that runs a task.

    Args:
        task: the task.
        repeated: whether Kubeflow retries the task.

    Raises:
        ConfigurationError: the path of an output does not occur in the argv.
    """
    names, template = Names(), task.template
    made = Interface(command_length=len(template.command))
    made.outputs = {name: names.make(name) for name in template.outputs}
    made.artifacts = {name: names.make(name) for name in template.artifacts}
    texts = {f"inputs.parameters.{name}": _bind(made, names, name, _given(task, name)) for name in template.inputs}

    def spelled(reference: str) -> str:
        return texts[reference] if reference in texts else _reference(made, names, reference)

    paths = {path: made.outputs[name] for name, path in template.outputs.items()}
    paths |= {path: made.artifacts[name] for name, path in template.artifacts.items()}
    argv = tuple(substitute(_placed(word, paths), spelled) for word in template.argv)
    for path, name in paths.items():
        if not any(f"{{{{output.{name}}}}}" in word for word in argv):
            raise ConfigurationError(
                f"template {template.name}: output {name!r} is read from {path}, but no argument contains this path; Kubeflow "
                "chooses the paths of outputs, so they must be arguments of the container"
            )
    if template.step and repeated:
        argv += (ONCE,)
    made.argv = argv
    return made


def _given(task: TaskNode, name: str) -> str:
    value = task.arguments.get(name, task.template.inputs[name])
    assert value is not None, f"{task.name}.{name}: the subset's rules reject inputs without a value"
    return value


def _bind(made: Interface, names: Names, name: str, value: str) -> str:
    """Return the text that replaces a template's input in the argv."""
    if REFERENCE.fullmatch(value) or not references(value):
        own = names.make(name)
        made.inputs[own] = value
        return f"{{{{input.{own}}}}}"
    return substitute(value, lambda reference: _reference(made, names, reference))


def _reference(made: Interface, names: Names, reference: str) -> str:
    if reference.startswith(("output.", "input.")):
        return f"{{{{{reference}}}}}"
    text = f"{{{{{reference}}}}}"
    own = next((name for name, value in made.inputs.items() if value == text), "")
    if not own:
        match = TASK_OUTPUT.match(reference)
        preferred = f"{match['task']}_{match['output']}" if match else reference.removeprefix("workflow.").rpartition(".")[2]
        own = names.make("run" if reference == RUN else preferred)
        made.inputs[own] = text
    return f"{{{{input.{own}}}}}"


def _placed(word: str, paths: dict[str, str]) -> str:
    """Replace output paths in an argument by placeholders."""
    for path in sorted(paths, key=len, reverse=True):
        word = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w/-])(?!\.\w)", f"{{{{output.{paths[path]}}}}}", word)
    return word


def container_component(
    task: TaskNode, made: Interface, type_of: Callable[[str], Any], list_outputs: frozenset[tuple[str, str]]
) -> Any:
    """Build the Kubeflow component.

    Args:
        task: the task.
        made: the interface of its component.
        type_of: Python type of an input's value (text, or one reference).
        list_outputs: (task, output) pairs that are JSON lists because a loop runs over them.
    """
    from kfp import dsl

    annotations: dict[str, Any] = {name: type_of(value) for name, value in made.inputs.items()}
    for name, own in made.outputs.items():
        annotations[own] = dsl.OutputPath(list if (task.name, name) in list_outputs else str)
    for name, own in made.artifacts.items():
        annotations[own] = dsl.Output[_artifact_type(task.template.artifacts[name])]

    def body(*placeholders: Any) -> Any:
        given = dict(zip(annotations, placeholders, strict=True))
        texts = {f"input.{name}": str(given[name]) for name in made.inputs}
        texts |= {f"output.{own}": str(given[own]) for own in made.outputs.values()}
        texts |= {f"output.{own}": str(given[own].path) for own in made.artifacts.values()}
        argv = [substitute(word, texts.__getitem__) for word in made.argv]
        cut = made.command_length
        return dsl.ContainerSpec(image=task.template.image, command=argv[:cut], args=argv[cut:])

    set_signature(body, task.name, {name: (kind, inspect.Parameter.empty) for name, kind in annotations.items()})
    return dsl.container_component(body)


def set_signature(function: Any, name: str, parameters: dict[str, tuple[Any, Any]]) -> None:
    """Set the name and the signature of a function that Kubeflow inspects (name -> type, default)."""
    function.__name__ = name
    kind = inspect.Parameter.KEYWORD_ONLY  # in any order, with or without default
    function.__signature__ = inspect.Signature(
        [inspect.Parameter(own, kind, annotation=given, default=default) for own, (given, default) in parameters.items()]
    )


def _artifact_type(path: str) -> Any:
    from kfp import dsl

    if path.endswith(".html"):
        return dsl.HTML
    if path.endswith(".md"):
        return dsl.Markdown
    return dsl.Metrics if path.endswith("metrics.json") else dsl.Artifact
