"""From a file to a built workflow as plain data.

A Python file is executed and its workflow built under the chosen profile. A YAML file is taken as it is, without importing
hera.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_workflows.argo import yaml_file
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.shape import check_shape, without_nulls
from mm1_workflows.authoring import pipelines, profiles
from mm1_workflows.authoring.python_file import executed

if TYPE_CHECKING:
    from hera.workflows import Workflow


@dataclass(frozen=True)
class Loaded:
    """A workflow file, built."""

    target: str
    """The file as it was named: ``file.py``, ``file.py:name``, ``file.yaml``."""
    document: Document
    """The Argo object as plain data."""
    profile: profiles.Profile


def load(target: str, profile: str = "default") -> Loaded:
    """Load a workflow from ``file.py``, ``file.py:name``, a YAML file, or ``mm1:NAME`` (one that comes with this project).

    Args:
        target: what to load. ``name`` is a workflow of the file or a function of no arguments that returns one; it may be
            omitted when the file has one workflow, or no workflow and one function annotated ``-> Workflow``.
        profile: name or file of the profile to build with.

    Raises:
        ConfigurationError: no such file or name, not a workflow, or the file itself fails.
    """
    chosen = profiles.read(profile)
    target = pipelines.file_of(target)
    file, _, name = target.partition(":")
    path = Path(file)
    if not path.is_file():
        raise ConfigurationError(f"workflow file {file}: no such file")
    if path.suffix in (".yaml", ".yml", ".json"):
        return Loaded(target, _read_yaml(path), chosen)
    if path.suffix != ".py":
        raise ConfigurationError(f"workflow file {file}: expected a Python file or a YAML file")
    from mm1_workflows.authoring import hooks  # noqa: F401 - what every template gets, also one of a file without steps

    with profiles.using(chosen), executed(path) as module:
        return Loaded(target, _workflow(module, name, file).to_dict(), chosen)


def _read_yaml(path: Path) -> Document:
    documents = yaml_file.read_documents(path, f"workflow file {path}")
    if len(documents) == 1 and isinstance(documents[0], dict):
        document: Document = without_nulls(documents[0])
        check_shape(document, f"workflow file {path}: not a well-formed Argo object")
        return document
    content = ", ".join(map(yaml_file.kind_of, documents)) or "nothing"
    raise ConfigurationError(f"workflow file {path}: expected one Argo object, got {content}")


def _workflow(module: ModuleType, name: str, file: str) -> Workflow:
    """The workflow of a module that a target means."""
    from hera.workflows import Workflow

    workflows = _different(module, lambda value: isinstance(value, Workflow))
    functions = _different(module, lambda value: _returns_workflow(value, module))
    if name:
        value = vars(module).get(name)
        if value is None:
            raise ConfigurationError(f"no workflow {name!r}; {suggest(name, [*workflows, *functions])}")
        return _made(name, value)
    names = workflows or functions
    if len(names) == 1:
        return _made(names[0], vars(module)[names[0]])
    if names:
        raise ConfigurationError(f"expected one workflow, got {len(names)}; choose one as {file}:NAME ({', '.join(names)})")
    raise ConfigurationError(
        "expected a workflow, got none: write `with Workflow(...) as w:` or a function of no arguments annotated `-> Workflow` "
        "(modules that workflow files import are named with an underscore)"
    )


def _different(module: ModuleType, wanted: Callable[[Any], bool]) -> list[str]:
    """The names of a kind of value in a module; of several names for one value the first."""
    names: dict[int, str] = {}
    for name, value in vars(module).items():
        if wanted(value):
            names.setdefault(id(value), name)
    return list(names.values())


def _made(name: str, value: Any) -> Workflow:
    """A workflow, or what a function of no arguments returns."""
    from hera.workflows import Workflow

    if isinstance(value, Workflow):
        return value
    if not callable(value):
        raise ConfigurationError(f"expected a workflow or a function that returns one, {name} is a {type(value).__name__}")
    if required := _required(value):
        raise ConfigurationError(f"expected a function of no arguments, {name} needs {', '.join(required)}")
    made = value()
    if not isinstance(made, Workflow):
        raise ConfigurationError(f"expected a workflow, {name}() returned a {type(made).__name__}")
    return made


def _returns_workflow(value: Any, module: ModuleType) -> bool:
    """Whether a value is a function of this module that is annotated ``-> Workflow`` and needs no arguments."""
    if not inspect.isfunction(value) or inspect.iscoroutinefunction(value):
        return False
    if value.__module__ != module.__name__ or _required(value):
        return False
    annotation = value.__annotations__.get("return")
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return text.strip("'\"").rpartition(".")[2] in ("Workflow", "WorkflowTemplate", "CronWorkflow")


def _required(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [item.name for item in parameters if item.default is item.empty and item.kind not in optional]
