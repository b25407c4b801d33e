"""Compilation of workflow files to YAML, reproducible for the same files, profile and code, so that it can be committed.

Each file is compiled for three engines::

    workflows/pretrain.py --build--> Argo object --+--> argo      Workflow to submit           workflows/compiled/argo
                                                   +--> kubeflow  IR and platform spec         workflows/compiled/kubeflow
                                                   +--> template  WorkflowTemplate of a chart  charts/mm1/files/<profile>
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from mm1.errors import ConfigurationError
from mm1.store.local import atomic_path
from mm1_workflows.argo.document import Document, name_of, spec_of
from mm1_workflows.argo.parameters import defaults_of
from mm1_workflows.authoring.load import Loaded, load
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import check_values

Engine = Literal["argo", "kubeflow", "template"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PREFIX = "# Made from "
HEADER = PREFIX + "{source} by `mm1 compile` (profile {profile}); do not edit.\n"
DEFAULT = "default"
TRIAL = "smoke"
"""The profile of the chart's trial, whose templates the chart carries next to those of the default profile."""
PACKAGE = Path(__file__).resolve().parents[1]
API_VERSION = "argoproj.io/v1alpha1"
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's writer if PyYAML was built with it: the same text, ten times faster."""


@dataclass(frozen=True)
class Compiled:
    """A compiled file."""

    path: Path
    text: str
    source: str
    """The workflow file that it was compiled from."""


def to_yaml(document: Document, *, allow_unicode: bool = True) -> str:
    """Format a workflow's plain data as YAML, with names first."""
    return yaml.dump(_names_first(document), Dumper=_DUMPER, sort_keys=False, width=120, allow_unicode=allow_unicode)


def compiled(target: str, profile: str = DEFAULT, engine: Engine = "argo") -> str:
    """Compile a workflow file to YAML for an engine.

    Raises:
        ConfigurationError: the file cannot be loaded, or the engine cannot run it.
        PolicyError: the workflow is outside the subset that all engines support.
    """
    return _text(load(target, profile), engine)


def workflow_files(folder: Path = Path("workflows")) -> list[str]:
    """Return the workflow files of a folder, except modules that they import (``_name.py``).

    Raises:
        ConfigurationError: there are none.
    """
    files = [str(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    if not files:
        raise ConfigurationError(
            f"no workflow files: {folder}/*.py does not exist; give the files, or change to the folder of the project"
        )
    return files


def stub_files(folder: Path = Path("workflows")) -> list[Compiled]:
    """Return the stub of ``steps`` in a checkout of this project; nothing elsewhere, because the package contains it."""
    package = folder / "mm1_workflows"
    if package.resolve() != PACKAGE:
        return []
    from mm1_workflows.authoring import stubs

    return [Compiled(package / "authoring/steps.pyi", stubs.text(), "mm1_components")]


def folder_of(engine: Engine, profile: str = DEFAULT) -> Path:
    """Return the folder of an engine's YAML; only that of the default profile is committed under ``workflows``."""
    if engine == "template":
        return Path("charts/mm1/files") / profile
    return Path("workflows/compiled" if profile == DEFAULT else f"build/compiled/{profile}") / engine


def compile_all(
    targets: Sequence[str], engines: Sequence[Engine] = ENGINES, profile: str = DEFAULT, folder: Path | None = None
) -> tuple[list[Compiled], list[Loaded]]:
    """Compile workflow files, and return the compiled files and the built workflows.

    Args:
        targets: workflow files.
        engines: engines to compile for.
        profile: name or file of the profile.
        folder: folder for the files instead of the engine's default; for a single engine only.

    Raises:
        ConfigurationError: a workflow cannot be compiled, or two workflows have the same file.
    """
    if folder is not None and len(engines) != 1:
        raise ConfigurationError("--to requires a single engine: set --engine")
    loaded = [load(target, profile) for target in dict.fromkeys(targets)]
    sources: dict[str, str] = {}
    for item in loaded:
        other = sources.setdefault(_stem(item.target), item.target)
        if other != item.target:
            raise ConfigurationError(
                f"{other} and {item.target} would both be written to {_stem(other)}.yaml; compile only one of them"
            )
    files = [
        Compiled(
            (folder or folder_of(engine, item.profile.name)) / f"{_stem(item.target)}.yaml", _text(item, engine), item.target
        )
        for item in loaded
        for engine in engines
    ]
    return files, loaded


def write(files: Sequence[Compiled]) -> list[Path]:
    """Write files, and return the paths that changed."""
    changed = []
    for file in files:
        if not file.path.is_file() or file.path.read_text() != file.text:
            with atomic_path(file.path) as temporary:
                temporary.write_text(file.text)
            changed.append(file.path)
    return changed


def drift(files: Sequence[Compiled]) -> dict[Path, str]:
    """Return the files on disk that are out of date, each with its diff."""
    diffs: dict[Path, str] = {}
    for file in files:
        current = file.path.read_text() if file.path.is_file() else ""
        if current != file.text:
            lines = difflib.unified_diff(current.splitlines(True), file.text.splitlines(True), str(file.path), file.source)
            diffs[file.path] = "".join(lines)
    return diffs


def strays(files: Sequence[Compiled]) -> list[Path]:
    """Return the compiled files in the same folders whose workflow file no longer exists."""
    expected = {file.path for file in files}
    existing = {path for folder in {file.path.parent for file in files} for path in folder.glob("*.yaml")}
    return sorted(path for path in existing - expected if path.read_text().startswith(PREFIX))


def template_of(document: Document) -> Document:
    """Convert a workflow to a WorkflowTemplate, named after the stem of the runs' generated name, without a namespace."""
    metadata = {key: value for key, value in (document.get("metadata") or {}).items() if key in ("labels", "annotations")}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowTemplate",
        "metadata": {"name": name_of(document)} | metadata,
        "spec": spec_of(document),
    }


def _text(loaded: Loaded, engine: Engine) -> str:
    workflow = read_workflow(loaded.document)  # fails for a workflow that no engine can run
    check_values(workflow, defaults_of(workflow), on_cluster=True, starting=False)
    header = HEADER.format(source=Path(loaded.target).name, profile=loaded.profile.name)
    if engine == "kubeflow":
        return header + _pipeline(loaded)
    return header + to_yaml(template_of(loaded.document) if engine == "template" else loaded.document)


def _pipeline(loaded: Loaded) -> str:
    from mm1_workflows.engines.kubeflow import parity, translate  # imports kfp, which takes seconds

    try:
        text = translate.to_yaml(loaded.document)
    except ValueError as error:  # kfp rejects a name or a quantity
        raise ConfigurationError(f"{loaded.target} cannot be compiled for Kubeflow: {error}") from error
    if differing := parity.differences(loaded.document, text):
        lines = "\n  ".join(differing)
        raise ConfigurationError(
            f"{loaded.target} cannot be compiled for Kubeflow; the pipeline would differ (Argo / Kubeflow):\n  {lines}"
        )
    return text


def _stem(target: str) -> str:
    """Return the stem of the compiled file: the name of the file, and of the workflow in it if the target has one."""
    file, _, name = target.partition(":")
    return f"{Path(file).stem}-{name}" if name else Path(file).stem


def _names_first(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "name")
        return {key: _names_first(value[key]) for key in keys}
    return [_names_first(item) for item in value] if isinstance(value, list) else value
