"""Reading studies: by name, from a file, or from the text of a file. Torch-free.

``caption_interleaved`` is the file of this project with that name, ``my/study.yaml`` is a file of yours, and a text with line
breaks is a study itself, so that it can travel to a cluster as the value of a parameter. A study names the chain whose
settings its levels change (``studies/bases/<name>.yaml``).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from mm1.config.resolve import complaints, suggest
from mm1.errors import ConfigurationError
from mm1.studies.config import STAGES, Settings, Study, check_settings
from mm1.studies.yaml_text import Lines, parse

_PACKAGE = Path(__file__).parent
FOLDER = next((folder for folder in (_PACKAGE / "library", _PACKAGE.parents[2] / "studies") if folder.is_dir()), _PACKAGE)
"""Folder of this project's studies: in an installed wheel, in a checkout or an image."""
BASES = FOLDER / "bases"
LIKE = "like"
"""Field of a base: name of the base whose settings in the studies also fit this one."""
SUFFIXES = (".yaml", ".yml")
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
    if _is_yaml(text):
        study = _study(text, "study")
        return {slug(study.title): study}
    if not (items := [text.strip()] if _is_file(text.strip()) else text.split()):
        raise ConfigurationError(f"studies: expected names or files, got none; known: {', '.join(names())}")
    studies: dict[str, Study] = {}
    for item in items:
        path = Path(item) if item.endswith(SUFFIXES) else _named(item, FOLDER, "study")
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
        for key, value in inputs.items():
            if not isinstance(value, str | None):
                raise ConfigurationError(f"{what}{lines.at(f'{stage}.{key}')}: {stage}.{key}: expected a value, got {value!r}")
            settings[f"{stage}.{key}"] = value or ""
    try:
        check_settings(settings)
    except ValueError as error:
        raise ConfigurationError(f"{what}{lines.at(str(error).partition(': ')[0])}: {error}") from None
    return settings


def on_base(study: Study, base: str) -> Study:
    """Return a study on another base, with the settings that it states for that base, or for the one that it is ``like``.

    Raises:
        ConfigurationError: an unknown base, or an invalid file.
    """
    return study.on(base, str(_base_tree(base)[0].get(LIKE) or base))


def _base_tree(name: str) -> tuple[dict[str, Any], Lines, str]:
    if _is_yaml(name):
        return *parse(name, "base"), "base"
    path = Path(name) if name.endswith(SUFFIXES) else _named(name, BASES, "base")
    return *parse(_text_of(path, f"base {name}"), f"base {name}"), f"base {name}"


def _is_yaml(text: str) -> bool:
    """Whether a text is YAML itself instead of names and files."""
    return "\n" in text.strip() or text.lstrip().startswith("{")


def _is_file(text: str) -> bool:
    """Whether a text is the name of one YAML file, which may contain spaces."""
    return text.endswith(SUFFIXES) and Path(text).is_file()


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


def _study(text: str, what: str) -> Study:
    tree, lines = parse(text, what)
    tree = _without_empty(tree)
    if wrong := complaints(Study, tree):
        field, complaint = min(wrong, key=lambda item: item[1] == "is required")  # a misspelled field is also missing
        where = field or complaint.partition(": ")[0]
        raise ConfigurationError(f"{what}{lines.at(where)}: {f'{field}: ' if field else ''}{complaint}")
    return Study.model_validate(tree)


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """Replace empty settings, which YAML reads as None, by an empty map, and their empty values by an empty text."""
    tree = dict(tree)
    for name in ("settings", "target"):
        if name in tree:
            tree[name] = _texts(tree[name])
    if isinstance(levels := tree.get("levels"), dict):
        tree["levels"] = {level: _texts(settings) for level, settings in levels.items()}
    if isinstance(bases := tree.get("bases"), dict):
        tree["bases"] = {base: _without_empty(sizes) if isinstance(sizes, dict) else sizes for base, sizes in bases.items()}
    return tree


def _texts(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {path: "" if value is None else value for path, value in settings.items()}
    return {} if settings is None else settings


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
            f"{what}: no such file in {Path.cwd()}; on a cluster, give the text of the file instead of its path"
        ) from None
    except (OSError, ValueError) as error:  # such as another encoding, or a name with a zero byte
        raise ConfigurationError(f"{what}: cannot be read: {error}") from None
