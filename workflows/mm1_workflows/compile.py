"""Workflow files as YAML: the same text for the same files, profile and code, so that it can be committed and compared."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from mm1.store.local import atomic_path
from mm1_workflows.graph import Document
from mm1_workflows.load import load

HEADER = "# Made from {source} by `mm1 compile` (profile {profile}); do not edit.\n"


def to_yaml(document: Document) -> str:
    """A workflow's plain data as YAML, names first."""
    return yaml.safe_dump(_names_first(document), sort_keys=False, width=120, allow_unicode=True)


def compiled(target: str, profile: str = "default") -> str:
    """The YAML of a workflow file."""
    loaded = load(target, profile)
    return HEADER.format(source=Path(target).name, profile=loaded.profile.name) + to_yaml(loaded.document)


def workflow_files(folder: Path = Path("workflows")) -> list[str]:
    """The workflow files of a folder."""
    return [str(path) for path in sorted(folder.glob("*.py"))]


def write(targets: list[str], folder: Path, profile: str = "default") -> list[Path]:
    """Write the YAML of workflow files; the paths that changed."""
    changed = []
    for target in targets:
        path, text = folder / f"{Path(target).stem}.yaml", compiled(target, profile)
        if not path.is_file() or path.read_text() != text:
            with atomic_path(path) as temporary:
                temporary.write_text(text)
            changed.append(path)
    return changed


def drift(targets: list[str], folder: Path, profile: str = "default") -> dict[Path, str]:
    """Files that differ from what would be written, each with its diff."""
    found: dict[Path, str] = {}
    wanted = {folder / f"{Path(target).stem}.yaml": target for target in targets}
    for path, target in wanted.items():
        there = path.read_text() if path.is_file() else ""
        text = compiled(target, profile)
        if there != text:
            found[path] = "".join(difflib.unified_diff(there.splitlines(True), text.splitlines(True), str(path), target))
    return found


def _names_first(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "name")
        return {key: _names_first(value[key]) for key in keys}
    return [_names_first(item) for item in value] if isinstance(value, list) else value
