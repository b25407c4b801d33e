"""From a file to a built workflow as plain data.

A Python file is loaded by path under a private module name, so that no workflow file shadows a package; its workflow is built
under the chosen profile. A YAML file is taken as it is, without importing hera.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError, Mm1Error
from mm1_workflows.argo.document import Document
from mm1_workflows.authoring import pipelines, profiles


@dataclass(frozen=True)
class Loaded:
    """A workflow file, built."""

    target: str
    """What was asked for: ``file.py``, ``file.py:object``, ``file.yaml``."""
    document: Document
    """The Argo object as plain data."""
    profile: profiles.Profile


def load(target: str, profile: str = "default") -> Loaded:
    """Load a workflow from ``file.py``, ``file.py:object``, a YAML file, or ``mm1:NAME`` (one that comes with this project).

    Args:
        target: what to load; a Python file must hold one workflow, or the object is named after a colon.
        profile: name or file of the profile to build with.

    Raises:
        ConfigurationError: no such file or object, not a workflow, or the file itself fails.
    """
    chosen = profiles.read(profile)
    target = pipelines.file_of(target)
    name, _, attribute = target.partition(":")
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(f"workflow file {name}: no such file")
    if path.suffix in (".yaml", ".yml", ".json"):
        return Loaded(target, _read_yaml(path), chosen)
    if path.suffix != ".py":
        raise ConfigurationError(f"workflow file {name}: a Python file or a YAML file is wanted")
    with profiles.using(chosen):
        return Loaded(target, _object(_execute(path), path, attribute).to_dict(), chosen)


def _read_yaml(path: Path) -> Document:
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except yaml.YAMLError as error:
        raise ConfigurationError(f"workflow file {path}: not YAML: {error}") from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigurationError(f"workflow file {path}: exactly one YAML object is wanted, there are {len(documents)}")
    return documents[0]


def _execute(path: Path) -> ModuleType:
    name = f"_mm1_workflow_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"workflow file {path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their module up while it is executed
    try:
        spec.loader.exec_module(module)
    except Mm1Error as error:
        raise type(error)(f"workflow file {path}: {error}") from error
    except Exception as error:
        # Whatever the file itself does wrong is its author's to mend: show where in the file, not our own frames.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise ConfigurationError(f"workflow file {path}{line}: {type(error).__name__}: {error}") from error
    finally:
        del sys.modules[name]
    return module


def _object(module: ModuleType, path: Path, attribute: str) -> Any:
    from hera.workflows import Workflow

    found = {name: value for name, value in vars(module).items() if isinstance(value, Workflow)}
    if attribute:
        if attribute not in found:
            raise ConfigurationError(f"workflow file {path}: no workflow {attribute!r}; {suggest(attribute, list(found))}")
        return found[attribute]
    if len({id(value) for value in found.values()}) != 1:
        names = f"; choose one as {path}:<name> of {', '.join(found)}" if found else ""
        raise ConfigurationError(f"workflow file {path}: one workflow is wanted, there are {len(found)}{names}")
    return next(iter(found.values()))
