"""The pipelines of this project by name: ``mm1:full``, ``mm1:pretrain``.

In a checkout, they are the files in ``workflows``; an installed wheel contains them in this package.
"""

from __future__ import annotations

from pathlib import Path

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError

PREFIX = "mm1:"
_PACKAGE = Path(__file__).parents[1]
FOLDER = next(folder for folder in (_PACKAGE / "pipelines", _PACKAGE.parent) if folder.is_dir())
"""Folder of their files."""
_CHART_VALUES_PATHS = (FOLDER / "values.yaml", FOLDER.parent / "charts/mm1/values.yaml")
CHART_VALUES = next((path for path in _CHART_VALUES_PATHS if path.is_file()), _CHART_VALUES_PATHS[0])
"""The chart's values in a checkout or in an installed wheel; images do not contain them."""


def names() -> list[str]:
    """Return the names of all pipelines, without the prefix."""
    return [path.stem for path in sorted(FOLDER.glob("*.py"))]


def file_of(target: str) -> str:
    """Return the file of ``mm1:NAME``; other targets are returned unchanged.

    Raises:
        ConfigurationError: there is no pipeline of this name.
    """
    if not target.startswith(PREFIX):
        return target
    name = target.removeprefix(PREFIX)
    if name not in names():
        raise ConfigurationError(f"no pipeline {target!r}; {suggest(name, names())}")
    return str(FOLDER / f"{name}.py")
