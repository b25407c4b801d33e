"""Executing a workflow file as a temporary Python module, with errors that name the file and the line.

The file is loaded by path under a private module name. Meanwhile, its folder is the last entry of ``sys.path``, so it can
import modules next to it, and none of them shadows a package. These modules are removed afterwards, so two files may have
helper modules of the same name.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from mm1.errors import BY_OUTCOME, ConfigurationError, Mm1Error
from mm1_workflows.authoring import shadowing

MODULE_PREFIX = "_mm1_workflow_"


@contextmanager
def executed(path: Path) -> Iterator[ModuleType]:
    """Execute a Python file, whose functions can be called inside the block. Its standard output goes to stderr.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file or the block fails; the message has the file and, if known, the line.
    """
    path = path.absolute()
    with redirect_stdout(sys.stderr), _errors_named(path), _importable(path.parent), _module(path) as module:
        yield module


@contextmanager
def _module(path: Path) -> Iterator[ModuleType]:
    name = f"{MODULE_PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, "a path that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, for example, look up their module during execution
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.modules.pop(name, None)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    if entry in sys.path:  # importable already: nothing to add or to remove
        yield
        return
    before = {name for name in sys.modules if "." not in name}
    sys.path.append(entry)
    try:
        yield
    finally:
        if entry in sys.path:  # the last entry, because the file itself may have added its folder
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]
        sys.path_importer_cache.pop(entry, None)
        own = {name for name, module in list(sys.modules.items()) if name not in before and _is_in(folder, module)}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]


def _is_in(folder: Path, module: ModuleType) -> bool:
    """Whether a module or package is directly in a folder, and not, for example, in a virtual environment below it."""
    spec = getattr(module, "__spec__", None)  # attributes of a module may be generated, as in torch.classes
    if not isinstance(spec, ModuleSpec):
        return False
    location = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return location is not None and Path(location).parent == folder


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # including sys.exit(), so that every error names the file
        kind = BY_OUTCOME.get(error.outcome, ConfigurationError) if isinstance(error, Mm1Error) else ConfigurationError
        raise kind(f"workflow file {_location(error, path)}: {_reason(error)}") from error


def _location(error: BaseException, path: Path) -> str:
    """Return the file and the innermost line in it or in a module next to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return _line(path, Path(error.filename), error.lineno)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == path.parent]
    return _line(path, Path(frames[-1].filename), frames[-1].lineno) if frames else _short(path)


def _line(path: Path, file: Path, number: int | None) -> str:
    where = f"line {number}" if file == path else f"{file.name}, line {number}"
    return f"{_short(path)}, {where}"


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _reason(error: BaseException) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception as second:  # noqa: BLE001 - the error's class and its __str__ may be defined in the file
        return f"{type(error).__name__}, whose __str__ raises {type(second).__name__}"
    if explanation := shadowing.explain(error):
        return explanation
    if isinstance(error, Mm1Error):
        return text
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r}), but a workflow file must only define workflows"
    return f"{type(error).__name__}: {text}".removesuffix(": ")
