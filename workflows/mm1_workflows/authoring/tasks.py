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
    """A task in the current DAG that runs a step.

    Args:
        step: the declaration.
        name: the task's name; by default the step's.
        when: condition, ``{{tasks.x.outputs.parameters.y}} == literal``.
        with_param: a JSON list of strings, or a reference to one: one task per item, which inputs name as ``{{item}}``.
        with_items: a list of strings, likewise.
        inputs: the step's inputs by name: plain values, text with references, or ``get_parameter(...)`` of a task or workflow.

    Raises:
        ConfigurationError: an unknown input, or a required one is missing, or the step is declared in the workflow file.
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
        raise ConfigurationError(f"step {step.name}: required inputs are missing: {', '.join(missing)}")
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
    """References to parameters of the current workflow, as keywords for a step.

    ``steps.sft(data=mix, **steps.given("seed", *RANKS, recipe="sft_recipe"))`` passes ``seed`` and the parameters of ``RANKS``
    to the inputs of the same names, and ``sft_recipe`` to the input ``recipe``.

    Args:
        parameters: parameters that feed the input of the same name: names, or the ``Parameter`` objects themselves.
        renamed: input of the step -> parameter that feeds it.

    Raises:
        ConfigurationError: used outside a workflow, or the workflow does not declare a parameter.
    """
    workflow = hera_private.current_workflow()
    if workflow is None:
        raise ConfigurationError("steps.given(...) reads the parameters of a workflow: use it inside `with Workflow(...)`")
    declared = [parameter.name for parameter in hera_private.arguments_of(workflow).parameters or []]
    feeds = {_name_of(parameter): _name_of(parameter) for parameter in parameters}
    feeds |= {field: _name_of(parameter) for field, parameter in renamed.items()}
    for name in feeds.values():
        if name not in declared:
            raise ConfigurationError(f"steps.given: the workflow declares no parameter {name!r}; {suggest(name, declared)}")
    return {field: workflow.get_parameter(name) for field, name in feeds.items()}


def _name_of(parameter: str | Parameter) -> str:
    return parameter if isinstance(parameter, str) else str(parameter.name)
