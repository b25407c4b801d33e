"""The text of ``steps.pyi``: the steps for type checkers and editors.

The functions of :mod:`mm1_workflows.authoring.steps` are created on access. Without a stub, an editor could complete neither
their names nor their inputs. ``mm1 compile`` writes the file in a checkout of this project.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from typing import Any, Literal, get_args, get_origin

from mm1_components.wrapper import registry
from mm1_workflows.authoring import signatures
from mm1_workflows.authoring.tasks import task

HEADER = '''"""The steps of this project. Generated from their declarations by `mm1 compile`; do not edit."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from hera.workflows import Parameter, Task

from mm1_components.wrapper.registry import declaration as declaration
from mm1_workflows.authoring.tasks import given as given
from mm1_workflows.authoring.tasks import task as task

_Text: TypeAlias = str | Parameter
"""Text, which may contain references, or a parameter of a task or workflow."""
'''


def text() -> str:
    """Return the stub."""
    return "\n".join([HEADER, *map(_function, registry.names())])


def _function(name: str) -> str:
    step = registry.declaration(name)
    parameters = signatures.signature(step).parameters.values()
    body = textwrap.indent(f'"""{signatures.docstring(step)}\n"""', " " * 4)
    return "\n".join([f"def {name}(", "    *,", *map(_parameter, parameters), ") -> Task:", body, ""])


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.name in signatures.TASK_KEYWORDS:
        own = inspect.signature(task).parameters[parameter.name]  # with its annotation as written in the source
        return f"    {own.name}: {own.annotation} = {own.default},"
    kind = "_Text" if parameter.annotation is str else f"{_kind(parameter.annotation)} | _Text"
    default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
    return f"    {parameter.name}: {kind}{default},"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(map(_default, get_args(annotation)))}]"
    return str(annotation.__name__)


def _default(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
