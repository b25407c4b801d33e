"""Reading studies: by name, from a file, or from the text of a file. Torch-free.

``caption_interleaved`` is the file of this project with that name, ``my/study.yaml`` is a file of yours, and a text with line
breaks is a study itself, so that it can travel to a cluster as the value of a parameter. A study names the chain whose
settings its levels change (``studies/bases/<name>.yaml``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mm1.config.resolve import complaints, suggest
from mm1.errors import ConfigurationError
from mm1.studies.config import STAGES, Settings, Study, check_settings

_PACKAGE = Path(__file__).parent
FOLDER = next((folder for folder in (_PACKAGE / "library", _PACKAGE.parents[2] / "studies") if folder.is_dir()), _PACKAGE)
"""Folder of this project's studies: in an installed wheel, in a checkout or an image."""
BASES = FOLDER / "bases"
LIKE = "like"
"""Field of a base: name of the base whose settings in the studies also fit this one."""
JOINED = "overrides"
"""Inputs whose settings are joined instead of replaced."""


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the YAML files in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_studies(text: str) -> dict[str, Study]:
    """Read studies: names and files, separated by spaces, or the text of one study.

    Raises:
        ConfigurationError: an unknown name, no such file, or an invalid study; with the line.
    """
    if "\n" in text.strip():
        study = _study(text, "study")
        return {slug(study.title): study}
    if not (items := text.split()):
        raise ConfigurationError(f"studies: expected names or files, got none; known: {', '.join(names())}")
    studies: dict[str, Study] = {}
    for item in items:
        path = Path(item) if item.endswith((".yaml", ".yml")) else _named(item, FOLDER, "study")
        if path.stem in studies:
            raise ConfigurationError(f"studies: {path.stem!r} is given twice; remove one, or rename its file")
        studies[path.stem] = _study(_text_of(path, f"study {item}"), f"study {item}")
    return studies


@cache
def read_base(name: str) -> Settings:
    """Read a chain: a map of stages, each a map of its step's inputs.

    Args:
        name: name of a file in ``studies/bases``, a YAML file, or the text of one.

    Raises:
        ConfigurationError: an unknown name or stage, or an invalid file.
    """
    tree, lines, what = _base_tree(name)
    settings: Settings = {}
    for stage, inputs in tree.items():
        if stage == LIKE:
            continue
        if not isinstance(inputs, dict):
            raise ConfigurationError(f"{what}{lines.at(stage)}: {stage}: expected a map of inputs, got {inputs!r}")
        settings |= {f"{stage}.{key}": _as_text(value) for key, value in inputs.items()}
    try:
        check_settings(settings)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None
    return settings


def on_base(study: Study, base: str) -> Study:
    """Return a study on another base, with the settings that it states for that base, or for the one that it is ``like``.

    Raises:
        ConfigurationError: an unknown base, or an invalid file.
    """
    return study.on(base, str(_base_tree(base)[0].get(LIKE) or base))


def _base_tree(name: str) -> tuple[dict[str, Any], Lines, str]:
    if "\n" in name.strip():
        return *parse(name, "base"), "base"
    path = Path(name) if name.endswith((".yaml", ".yml")) else _named(name, BASES, "base")
    return *parse(_text_of(path, f"base {name}"), f"base {name}"), f"base {name}"


def merged(*parts: Settings) -> dict[str, dict[str, str]]:
    """Merge settings, the later ones winning: stage -> input -> text, in the order of the stages.

    The ``overrides`` of a stage are joined. ``stage: omit`` removes a stage; a later setting of it brings it back.
    """
    chain: dict[str, dict[str, str]] = {}
    for settings in parts:
        for path, value in settings.items():
            stage, _, name = path.partition(".")
            if not name:
                chain.pop(stage, None)
                continue
            inputs = chain.setdefault(stage, {})
            before = f"{inputs[name]} " if name == JOINED and inputs.get(name) else ""
            inputs[name] = f"{before}{value}".strip()
    return {stage: chain[stage] for stage in STAGES if stage in chain}


def slug(title: str) -> str:
    """Return a name for file and record names: letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", title).strip("-._") or "level"


class Lines:
    """The lines of the fields of a YAML text."""

    def __init__(self, root: yaml.Node | None) -> None:
        self.lines: dict[tuple[str, ...], int] = {}
        if root is not None:
            self._add(root, ())

    def _add(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self.lines[*path, str(key.value)] = key.start_mark.line + 1
                self._add(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._add(value, (*path, str(number)))

    def at(self, field: str) -> str:
        """Return ``, line 3`` for a dotted field, or for the closest one above it; a key may contain dots itself."""
        paths = {".".join(path): line for path, line in self.lines.items()}
        while field and field not in paths:
            field = field.rpartition(".")[0]
        return f", line {paths[field]}" if field in paths else ""


def parse(text: str, what: str) -> tuple[dict[str, Any], Lines]:
    """Parse a YAML text that contains one map.

    Args:
        text: the text.
        what: start of error messages, such as ``study my.yaml``.

    Raises:
        ConfigurationError: invalid YAML, a key given twice, or not a map.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        _check_keys(root, what)
        tree = yaml.safe_load(text)
        json.dumps(tree, default=str)  # fails for recursive lists and keys that are not scalars
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{what}{line}: invalid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{what}: invalid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{what}: expected a map with title, factor, levels, ...; got {str(tree)[:40]!r}")
    return tree, Lines(root)


def _check_keys(node: yaml.Node | None, what: str) -> None:
    """Refuse a key that is given twice, of which YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        for number, (key, value) in enumerate(node.value):
            if keys[number] in keys[:number]:
                line = key.start_mark.line + 1
                raise ConfigurationError(f"{what}, line {line}: {keys[number]!r} is given twice; remove one")
            _check_keys(value, what)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, what)


def _study(text: str, what: str) -> Study:
    tree, lines = parse(text, what)
    tree = _as_settings(tree)
    if wrong := complaints(Study, tree):
        field, complaint = min(wrong, key=lambda item: item[1] == "is required")  # a misspelled field is also missing
        where = field or complaint.partition(":")[0]
        raise ConfigurationError(f"{what}{lines.at(where)}: {f'{field}: ' if field else ''}{complaint}")
    return Study.model_validate(tree)


def _as_settings(tree: dict[str, Any]) -> dict[str, Any]:
    """Write the numbers and truth values of settings as text, as on a command line; level names may be numbers."""
    tree = dict(tree)
    for name in ("settings", "target"):
        if isinstance(settings := tree.get(name), dict):
            tree[name] = _texts(settings)
    if isinstance(levels := tree.get("levels"), dict):
        tree["levels"] = {str(level): _texts(settings or {}) for level, settings in levels.items()}
    if isinstance(bases := tree.get("bases"), dict):
        tree["bases"] = {str(base): _as_settings(sizes) if isinstance(sizes, dict) else sizes for base, sizes in bases.items()}
    return tree


def _texts(settings: Any) -> Any:
    return {str(path): _as_text(value) for path, value in settings.items()} if isinstance(settings, Mapping) else settings


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float | str) else value


def _named(name: str, folder: Path, what: str) -> Path:
    known = names(folder)
    if name not in known:
        raise ConfigurationError(f"no {what} {name!r}; {suggest(name, known)}; or give a YAML file")
    return folder / f"{name}.yaml"


def _text_of(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{what}: no such file in {Path.cwd()}; on a cluster, give the text of the study instead of its path"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what}: cannot be read: {error}") from None
