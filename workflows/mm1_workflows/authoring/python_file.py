"""A workflow file as a Python module that leaves nothing behind, and whose errors name the file and the line.

The file is loaded by path under a private module name. While it is used, its folder is the last entry of ``sys.path``: it can
import the modules beside it, and none of them shadows a package. These modules are forgotten afterwards, so that two files may
have helper modules of the same name.
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
    """Execute a Python file; inside the block its functions may still be called. What it prints goes to stderr.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file fails, or the block does; the message names the file and, where it is known, the line.
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
    sys.modules[name] = module  # dataclasses and the like look their module up while it is executed
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.modules.pop(name, None)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    if entry in sys.path:  # as importable as any other package: nothing to add, nothing to forget
        yield
        return
    before = {name for name in sys.modules if "." not in name}
    sys.path.append(entry)
    try:
        yield
    finally:
        if entry in sys.path:  # the last one: the file itself may have put its folder on the path
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]
        sys.path_importer_cache.pop(entry, None)
        own = {name for name, module in list(sys.modules.items()) if name not in before and _lies_in(folder, module)}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]


def _lies_in(folder: Path, module: ModuleType) -> bool:
    """Whether a module or package lies directly in a folder; a virtual environment below it does not count."""
    spec = getattr(module, "__spec__", None)  # attributes of a module may be made up, as those of torch.classes are
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
    except BaseException as error:  # also sys.exit(): the file's author reads the message, whatever the file does wrong
        kind = BY_OUTCOME.get(error.outcome, ConfigurationError) if isinstance(error, Mm1Error) else ConfigurationError
        raise kind(f"workflow file {_place(error, path)}: {_reason(error)}") from error


def _place(error: BaseException, path: Path) -> str:
    """The file, and the innermost line in it or in a module beside it."""
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
    except Exception as second:  # noqa: BLE001 - the error may be of a class of the file, and so may its __str__
        return f"{type(error).__name__}, whose __str__ raises {type(second).__name__}"
    if explanation := shadowing.explain(error):
        return explanation
    if isinstance(error, Mm1Error):
        return text
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) is called: a workflow file only defines workflows"
    return f"{type(error).__name__}: {text}".removesuffix(": ")
