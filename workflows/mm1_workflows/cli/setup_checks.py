"""Checks of the installation, with remedies, for ``mm1 doctor``."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mm1 import machine
from mm1.errors import Mm1Error
from mm1.store.open import open_store

MIN_MEMORY_GIB = 8.0
MIN_DISK_GIB = 5.0
GIB = 1 << 30
_PINNED = re.compile(r"^([A-Za-z0-9][-\w.]*)(?:\[[^]]*\])?==([^\s;\\]+)(?:[ \t]*;[ \t]*([^\\\n]+))?", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """The result of a check."""

    name: str
    fine: bool
    state: str
    remedy: str = ""
    needed: bool = True
    """False: a note, not an error."""


def all_checks(store_uri: str) -> list[Check]:
    """Run all checks and return their results."""
    return [check for look in (python, packages, hera_script, cores, memory, disk) for check in look()] + [store(store_uri)]


def python() -> Iterator[Check]:
    """Check the interpreter."""
    state = f"{sys.version.split()[0]} in {sys.prefix}"
    yield Check("python", sys.version_info >= (3, 11), state, "install Python 3.11 or newer")


def packages(lock: Path | None = None) -> Iterator[Check]:
    """Compare installed versions with the lock."""
    path = lock or _lock()
    if path is None:
        yield Check("packages", True, "not checked: no requirements.lock")
        return
    wrong = [
        f"{name} {installed or 'missing'} (locked {version})"
        for name, version in locked(path.read_text()).items()
        if (installed := _installed(name)) != version
    ]
    state = "as locked" if not wrong else f"{len(wrong)} differ: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
    yield Check("packages", not wrong, state, "make setup")


def locked(text: str) -> dict[str, str]:
    """Parse a lock file into package -> version, without lines whose marker does not apply."""
    from packaging.markers import Marker

    pins = _PINNED.findall(text)
    return {name.lower(): version for name, version, marker in pins if not marker.strip() or Marker(marker.strip()).evaluate()}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lock() -> Path | None:
    folders = [Path.cwd(), *Path(__file__).resolve().parents]
    return next((folder / "requirements.lock" for folder in folders if (folder / "requirements.lock").is_file()), None)


def hera_script() -> Iterator[Check]:
    """Check that ``bin/hera`` is from this project: Hera's wheel has the same file, and the last one installed wins."""
    remedy = "install this project last: pip install --no-deps --force-reinstall -e ."
    path = Path(sys.prefix) / "bin" / "hera"
    if not path.is_file():
        yield Check("hera", False, f"{path} is missing", remedy)
        return
    is_own = "mm1_workflows" in path.read_text()
    state = f"{path} has submit" if is_own else f"{path} is from Hera's wheel and has no submit (`mm1 submit` works)"
    yield Check("hera", is_own, state, remedy)


def cores() -> Iterator[Check]:
    """Check the number of cores that this process may use."""
    number = machine.cores()
    yield Check("cores", number >= 2, f"{number}", "with one core the toy pipeline takes twice as long", needed=False)


def memory() -> Iterator[Check]:
    """Check the memory of the machine."""
    total = machine.memory_bytes() / GIB
    remedy = f"the toy pipeline needs {MIN_MEMORY_GIB:g} GiB"
    yield Check("memory", total >= MIN_MEMORY_GIB, f"{total:.1f} GiB", remedy, needed=False)


def disk() -> Iterator[Check]:
    """Check the free disk space for runs."""
    free = shutil.disk_usage(Path.cwd()).free / GIB
    yield Check(
        "disk", free >= MIN_DISK_GIB, f"{free:.1f} GiB free", "free disk space, for example with mm1 gc, or set --store"
    )


def store(uri: str) -> Check:
    """Check that the store is writable."""
    key = "doctor/probe"
    try:
        opened = open_store(uri)
        opened.write(key, b"probe")
        opened.delete(key)
    except (Mm1Error, OSError) as error:
        return Check("store", False, str(error), "fix the error, or set another --store")
    return Check("store", True, f"{opened.uri} is writable")
