"""Tasks of a workflow: a step with its arguments, and references to the workflow's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hera.workflows import Parameter, Task

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.declaration import Step
from mm1_workflows.argo.document import ITEM, TASK_INPUT
from mm1_workflows.authoring import hera_private
from mm1_workflows.authoring.python_file import MODULE_PREFIX
from mm1_workflows.authoring.templates import as_text, template


def task(
    step: Step[Any, Any],
    *,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
    **inputs: Any,
) -> Task:
    """Create a task in the current DAG that runs a step.

    Args:
        step: the declaration.
        name: name of the task; the step's name by default.
        when: condition, ``{{tasks.x.outputs.parameters.y}} == literal``.
        with_param: a JSON list of strings, or a reference to one: runs the task for each item, ``{{item}}`` in inputs.
        with_items: a list of strings, in the same way.
        inputs: the step's inputs by name: plain values, text with references, or ``get_parameter(...)`` of a task or workflow.

    Raises:
        ConfigurationError: an unknown input, a missing required input, or a step that is declared in the workflow file.
    """
    if step.module.startswith(MODULE_PREFIX):
        raise ConfigurationError(
            f"step {step.name} needs a module of its own, which `python -m` can start: move it out of this file"
        )
    known = step.inputs.model_fields
    for field in inputs:
        if field not in known:
            raise ConfigurationError(f"step {step.name} has no input {field!r}; {suggest(field, list(known))}")
    missing = [field for field, info in known.items() if info.is_required() and field not in inputs]
    if missing:
        raise ConfigurationError(f"step {step.name}: missing required inputs: {', '.join(missing)}")
    task_name = name or step.name.replace("_", "-")
    label = f"{task_name}-{ITEM}" if with_param is not None or with_items is not None else task_name
    arguments = {field: as_text(value) for field, value in inputs.items()} | {TASK_INPUT: label}
    return Task(
        name=task_name,
        template=template(step),
        arguments=[Parameter(name=field, value=value) for field, value in arguments.items()],
        when=when,
        with_param=with_param,
        with_items=with_items,
    )


def given(*parameters: str | Parameter, **renamed: str | Parameter) -> dict[str, Any]:
    """Return references to parameters of the current workflow, as keyword arguments for a step.

    ``steps.sft(data=mix, **steps.given("seed", *RANKS, recipe="sft_recipe"))`` passes ``seed`` and the parameters of ``RANKS``
    to the inputs of the same names, and ``sft_recipe`` to the input ``recipe``.

    Args:
        parameters: parameters for the inputs of the same names: names, or the ``Parameter`` objects themselves.
        renamed: input of the step -> its parameter.

    Raises:
        ConfigurationError: used outside a workflow, or the workflow does not declare a parameter.
    """
    workflow = hera_private.current_workflow()
    if workflow is None:
        raise ConfigurationError("steps.given(...) requires a workflow: use it inside `with Workflow(...)`")
    declared = [parameter.name for parameter in hera_private.arguments_of(workflow).parameters or []]
    feeds = {_name_of(parameter): _name_of(parameter) for parameter in parameters}
    feeds |= {field: _name_of(parameter) for field, parameter in renamed.items()}
    for name in feeds.values():
        if name not in declared:
            raise ConfigurationError(f"steps.given: the workflow has no parameter {name!r}; {suggest(name, declared)}")
    return {field: workflow.get_parameter(name) for field, name in feeds.items()}


def _name_of(parameter: str | Parameter) -> str:
    return parameter if isinstance(parameter, str) else str(parameter.name)
