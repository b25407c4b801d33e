"""Workflow files as YAML: the same text for the same files, profile and code, so that it can be committed and compared.

One file is said for three readers::

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
MADE = "# Made from "
HEADER = MADE + "{source} by `mm1 compile` (profile {profile}); do not edit.\n"
DEFAULT = "default"
PACKAGE = Path(__file__).resolve().parents[1]
API_VERSION = "argoproj.io/v1alpha1"
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's writer where PyYAML was built with it: the same text, ten times sooner."""


@dataclass(frozen=True)
class Compiled:
    """One file to write."""

    path: Path
    text: str
    source: str
    """The workflow file that it is made from."""


def to_yaml(document: Document, *, allow_unicode: bool = True) -> str:
    """A workflow's plain data as YAML, names first."""
    return yaml.dump(_names_first(document), Dumper=_DUMPER, sort_keys=False, width=120, allow_unicode=allow_unicode)


def compiled(target: str, profile: str = DEFAULT, engine: Engine = "argo") -> str:
    """The YAML of a workflow file for an engine.

    Raises:
        ConfigurationError: the file cannot be loaded, or the engine can run it in no way.
        PolicyError: the workflow is outside the subset that all engines understand.
    """
    return _text(load(target, profile), engine)


def workflow_files(folder: Path = Path("workflows")) -> list[str]:
    """The workflow files of a folder; ``_name.py`` is a module that they import.

    Raises:
        ConfigurationError: there are none.
    """
    files = [str(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    if not files:
        raise ConfigurationError(f"no workflow files: there is no {folder}/*.py here; name the files, or go to their project")
    return files


def stub_files(folder: Path = Path("workflows")) -> list[Compiled]:
    """The stub of ``steps``, in a checkout of this project; nothing elsewhere, where it came with the package."""
    package = folder / "mm1_workflows"
    if package.resolve() != PACKAGE:
        return []
    from mm1_workflows.authoring import stubs

    return [Compiled(package / "authoring/steps.pyi", stubs.text(), "mm1_components")]


def folder_of(engine: Engine, profile: str = DEFAULT) -> Path:
    """Where the YAML of an engine lies; only that of the default profile is committed under ``workflows``."""
    if engine == "template":
        return Path("charts/mm1/files") / profile
    return Path("workflows/compiled" if profile == DEFAULT else f"build/compiled/{profile}") / engine


def compile_all(
    targets: Sequence[str], engines: Sequence[Engine] = ENGINES, profile: str = DEFAULT, folder: Path | None = None
) -> tuple[list[Compiled], list[Loaded]]:
    """All files that the workflow files give, and the workflows as built.

    Args:
        targets: workflow files.
        engines: whose YAML.
        profile: name or file of the profile.
        folder: where the files go instead of the engine's own folder; for one engine only.

    Raises:
        ConfigurationError: a workflow cannot be compiled, or two would be written to the same file.
    """
    if folder is not None and len(engines) != 1:
        raise ConfigurationError("a folder (--to) is for one engine: choose one with --engine")
    loaded = [load(target, profile) for target in dict.fromkeys(targets)]
    sources: dict[str, str] = {}
    for one in loaded:
        other = sources.setdefault(_stem(one.target), one.target)
        if other != one.target:
            raise ConfigurationError(
                f"{other} and {one.target} would both be written to {_stem(other)}.yaml; compile one of them"
            )
    files = [
        Compiled((folder or folder_of(engine, one.profile.name)) / f"{_stem(one.target)}.yaml", _text(one, engine), one.target)
        for one in loaded
        for engine in engines
    ]
    return files, loaded


def write(files: Sequence[Compiled]) -> list[Path]:
    """Write files; the paths that changed."""
    changed = []
    for file in files:
        if not file.path.is_file() or file.path.read_text() != file.text:
            with atomic_path(file.path) as temporary:
                temporary.write_text(file.text)
            changed.append(file.path)
    return changed


def drift(files: Sequence[Compiled]) -> dict[Path, str]:
    """Files that differ from what would be written, each with its diff."""
    found: dict[Path, str] = {}
    for file in files:
        there = file.path.read_text() if file.path.is_file() else ""
        if there != file.text:
            lines = difflib.unified_diff(there.splitlines(True), file.text.splitlines(True), str(file.path), file.source)
            found[file.path] = "".join(lines)
    return found


def strays(files: Sequence[Compiled]) -> list[Path]:
    """Files in the same folders that were made from a workflow file which is no longer there."""
    wanted = {file.path for file in files}
    there = {path for folder in {file.path.parent for file in files} for path in folder.glob("*.yaml")}
    return sorted(path for path in there - wanted if path.read_text().startswith(MADE))


def template_of(document: Document) -> Document:
    """A workflow as a WorkflowTemplate: named by the stem of the name that runs get, in the namespace it is installed into."""
    metadata = {key: value for key, value in (document.get("metadata") or {}).items() if key in ("labels", "annotations")}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowTemplate",
        "metadata": {"name": name_of(document)} | metadata,
        "spec": spec_of(document),
    }


def _text(loaded: Loaded, engine: Engine) -> str:
    workflow = read_workflow(loaded.document)  # what no engine runs is not written
    check_values(workflow, defaults_of(workflow), on_cluster=True)
    header = HEADER.format(source=Path(loaded.target).name, profile=loaded.profile.name)
    if engine == "kubeflow":
        return header + _pipeline(loaded)
    return header + to_yaml(template_of(loaded.document) if engine == "template" else loaded.document)


def _pipeline(loaded: Loaded) -> str:
    from mm1_workflows.engines.kubeflow import parity, translate  # imports kfp, which takes seconds

    try:
        text = translate.to_yaml(loaded.document)
    except ValueError as error:  # kfp refuses a name or a quantity
        raise ConfigurationError(f"{loaded.target} cannot be said for Kubeflow: {error}") from error
    if differing := parity.differences(loaded.document, text):
        lines = "\n  ".join(differing)
        raise ConfigurationError(
            f"{loaded.target} cannot be said for Kubeflow; the pipeline would not be the same (Argo / Kubeflow):\n  {lines}"
        )
    return text


def _stem(target: str) -> str:
    """The name of what is written: that of the file, with that of the workflow in it where the target names one."""
    file, _, name = target.partition(":")
    return f"{Path(file).stem}-{name}" if name else Path(file).stem


def _names_first(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "name")
        return {key: _names_first(value[key]) for key in keys}
    return [_names_first(item) for item in value] if isinstance(value, list) else value
