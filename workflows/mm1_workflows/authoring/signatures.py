"""Signature and docstring of a step's function, generated from the step's declaration."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any

from hera.workflows import Task
from pydantic.fields import FieldInfo

from mm1_components.wrapper.declaration import Step
from mm1_workflows.authoring.tasks import task
from mm1_workflows.authoring.templates import as_text

WIDTH = 120
TASK_KEYWORDS = {
    "name": "name of the task [default: the step's name]",
    "when": "condition, {{tasks.x.outputs.parameters.y}} == literal",
    "with_param": "JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs",
    "with_items": "list of strings, in the same way",
}
"""Keyword arguments of every step's function that configure the task."""


def function_of(step: Step[Any, Any]) -> Callable[..., Task]:
    """Return a function of a step's inputs that creates a task in the current DAG."""

    def make(**arguments: Any) -> Task:
        return task(step, **arguments)

    make.__name__ = make.__qualname__ = step.name
    make.__doc__ = docstring(step)
    make.__signature__ = signature(step)  # type: ignore[attr-defined]
    return make


def signature(step: Step[Any, Any]) -> inspect.Signature:
    """Return the signature: the step's inputs, required ones first, then those of the task; all keyword-only."""
    fields = sorted(step.inputs.model_fields.items(), key=lambda field: not field[1].is_required())
    inputs = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if info.is_required() else info.default,
            annotation=info.annotation,
        )
        for name, info in fields
    ]
    own = [
        parameter for parameter in inspect.signature(task, eval_str=True).parameters.values() if parameter.name in TASK_KEYWORDS
    ]
    return inspect.Signature([*inputs, *own], return_annotation=Task)


def docstring(step: Step[Any, Any]) -> str:
    """Return the docstring: summary, inputs with defaults, outputs."""
    inputs = {name: _described(info) for name, info in step.inputs.model_fields.items()}
    outputs = {name: str(info.description) for name, info in step.outputs.model_fields.items()}
    summary = step.summary.rstrip(".") + "."
    return "\n".join([summary, "", "Args:", *_entries(inputs | TASK_KEYWORDS), "", "Outputs:", *_entries(outputs)])


def _described(info: FieldInfo) -> str:
    default = "required" if info.is_required() else f"default: {as_text(info.default) or 'empty'}"
    return f"{info.description} [{default}]"


def _entries(entries: dict[str, str]) -> Iterator[str]:
    for name, text in entries.items():
        yield textwrap.fill(f"{name}: {text}", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
