"""Detection of files that shadow a package of the same name.

This happens if the file's folder comes before the packages on ``sys.path`` (``PYTHONPATH``, ``python -m``). A package then
imports the file, the file imports the package, and the error message does not mention the cause. This module only uses the
standard library, because any other package may be shadowed.
"""

from __future__ import annotations

import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path


def explain(error: BaseException | None) -> str | None:
    """Return the explanation of an error that is caused by such a file; None for other errors.

    Args:
        error: any exception, with its traceback.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            name, file = frame.f_globals.get("__name__"), Path(frame.f_code.co_filename)
            if frame.f_code.co_name == "<module>" and name == file.stem and _is_installed(name, file.parent):
                return f"{file} shadows the package {name}: rename it"
        error = error.__cause__ or error.__context__
    return None


def _is_installed(name: str, folder: Path) -> bool:
    """Whether a module of this name also exists outside a folder."""
    others = [entry for entry in sys.path if Path(entry or ".").absolute() != folder.absolute()]
    return PathFinder.find_spec(name, others) is not None
