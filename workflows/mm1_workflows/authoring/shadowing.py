"""A file that has the name of a package and is imported in its place.

It happens where the file's folder stands before the packages on ``sys.path`` (``PYTHONPATH``, ``python -m``); then a package
imports the file, the file imports the package, and the error is about neither. Uses the standard library only: any other
package may be the one that is missing.
"""

from __future__ import annotations

import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path


def explain(error: BaseException | None) -> str | None:
    """A sentence for an error in which such a file takes part; None for other errors.

    Args:
        error: any exception, with its traceback.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            name, file = frame.f_globals.get("__name__"), Path(frame.f_code.co_filename)
            if frame.f_code.co_name == "<module>" and name == file.stem and _is_installed(name, file.parent):
                return f"{file} has the name of the package {name} and is imported in its place: rename it"
        error = error.__cause__ or error.__context__
    return None


def _is_installed(name: str, folder: Path) -> bool:
    """Whether a module of that name is also found outside a folder."""
    others = [entry for entry in sys.path if Path(entry or ".").absolute() != folder.absolute()]
    return PathFinder.find_spec(name, others) is not None
