"""Loading a workflow file as plain data.

A Python file is executed, and its workflow is built with the chosen profile. A YAML file is read unchanged, without importing
Hera.
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
    """A loaded workflow file."""

    target: str
    """The file as given: ``file.py``, ``file.py:name``, ``file.yaml``."""
    document: Document
    """The Argo object as plain data."""
    profile: profiles.Profile


def load(target: str, profile: str = "default") -> Loaded:
    """Load a workflow from ``file.py``, ``file.py:name``, a YAML file, or ``mm1:NAME`` (a pipeline of this project).

    Args:
        target: the file. ``name`` is a workflow of the file or a function without arguments that returns a workflow. It may
            be omitted if the file has one workflow, or no workflow and one function annotated ``-> Workflow``.
        profile: name or file of the profile.

    Raises:
        ConfigurationError: no such file or name, not a workflow, or an error in the file.
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
    from mm1_workflows.authoring import hooks  # noqa: F401 - registers the hooks, also for files without steps

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
    """Return the workflow of a module that a target refers to."""
    from hera.workflows import Workflow

    workflows = _names_of(module, lambda value: isinstance(value, Workflow))
    functions = _names_of(module, lambda value: _returns_workflow(value, module))
    if name:
        value = vars(module).get(name)
        if value is None:
            raise ConfigurationError(f"no workflow {name!r}; {suggest(name, [*workflows, *functions])}")
        return _called(name, value)
    names = workflows or functions
    if len(names) == 1:
        return _called(names[0], vars(module)[names[0]])
    if names:
        raise ConfigurationError(f"expected one workflow, got {len(names)}; choose one as {file}:NAME ({', '.join(names)})")
    raise ConfigurationError(
        "expected a workflow, got none: add `with Workflow(...) as w:` or a function without arguments annotated `-> Workflow` "
        "(the names of modules imported by workflow files start with an underscore)"
    )


def _names_of(module: ModuleType, matches: Callable[[Any], bool]) -> list[str]:
    """Return the names of matching values in a module, with only the first of several names for the same value."""
    names: dict[int, str] = {}
    for name, value in vars(module).items():
        if matches(value):
            names.setdefault(id(value), name)
    return list(names.values())


def _called(name: str, value: Any) -> Workflow:
    """Return a workflow, or the workflow returned by a function without arguments."""
    from hera.workflows import Workflow

    if isinstance(value, Workflow):
        return value
    if not callable(value):
        raise ConfigurationError(f"expected a workflow or a function that returns one, got {name}, a {type(value).__name__}")
    if required := _required(value):
        raise ConfigurationError(f"expected a function without arguments, but {name} requires {', '.join(required)}")
    workflow = value()
    if not isinstance(workflow, Workflow):
        raise ConfigurationError(f"expected a workflow, but {name}() returned a {type(workflow).__name__}")
    return workflow


def _returns_workflow(value: Any, module: ModuleType) -> bool:
    """Whether a value is a function of this module that is annotated ``-> Workflow`` and requires no arguments."""
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
