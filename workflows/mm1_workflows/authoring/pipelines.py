"""The pipelines that come with this project, by name: ``mm1:full``, ``mm1:pretrain``.

In a checkout they are the files in ``workflows``; an installed wheel carries them inside this package.
"""

from __future__ import annotations

from pathlib import Path

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError

PREFIX = "mm1:"
_PACKAGE = Path(__file__).parents[1]
FOLDER = next(folder for folder in (_PACKAGE / "pipelines", _PACKAGE.parent) if folder.is_dir())
"""Where their files are."""
_PLACES = (FOLDER / "values.yaml", FOLDER.parent / "charts/mm1/values.yaml")
CHART_VALUES = next((path for path in _PLACES if path.is_file()), _PLACES[0])
"""The values of the chart, in a checkout and in an installed wheel; an image has none."""


def names() -> list[str]:
    """All pipelines, without the prefix."""
    return [path.stem for path in sorted(FOLDER.glob("*.py"))]


def file_of(target: str) -> str:
    """The file of ``mm1:NAME``; any other target stays as it is.

    Raises:
        ConfigurationError: there is no pipeline of this name.
    """
    if not target.startswith(PREFIX):
        return target
    name = target.removeprefix(PREFIX)
    if name not in names():
        raise ConfigurationError(f"no pipeline {target!r}; {suggest(name, names())}")
    return str(FOLDER / f"{name}.py")
