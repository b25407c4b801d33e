"""The steps of this project as functions: ``steps.<name>(...)`` inside a ``DAG`` creates a task.

::

    with Workflow(generate_name="mm1-pretrain-", entrypoint="pretrain", arguments=[*SOURCES, *MIXING]) as w:
        with DAG(name="pretrain"):
            raw = steps.ingest(**steps.given(*SOURCES))
            mix = steps.data_mix(data=raw.get_parameter("manifest"), **steps.given(*MIXING))

Every input of the step is a keyword argument; omitted inputs keep the step's defaults. ``name``, ``when``, ``with_param`` and
``with_items`` configure the task. A task that refers to an output of another task depends on it (:mod:`hooks` adds the edge
when the workflow is built); ``a >> b`` adds an edge without data.

Type checkers and editors read ``steps.pyi`` instead, which ``mm1 compile`` generates from the same declarations. Reading
declarations does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable

from hera.workflows import Task

from mm1_components.wrapper import registry
from mm1_components.wrapper.registry import declaration
from mm1_workflows.authoring import signatures
from mm1_workflows.authoring.tasks import given, task

__all__ = ["declaration", "given", "task", *registry.names()]


def __getattr__(name: str) -> Callable[..., Task]:
    """Return the function of a step.

    Raises:
        UnknownStepError: there is no such step.
    """
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = globals()[name] = signatures.function_of(declaration(name))
    return function


def __dir__() -> list[str]:
    return sorted(__all__)
