"""Keys of the step cache, which identify equal work (:mod:`mm1_components.wrapper.entries` has the results).

The key of a step is the SHA-256 of its name, its code digest and its resolved inputs. Addresses of manifests are replaced by
their digests, so the same work has the same key in every store and on every engine. The code digest covers the step's static
import closure within this project and the dependency lock: an edit in ``mm1.serve`` does not invalidate training.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from mm1.config.resolve import canonical_json
from mm1.store.base import digest_of

OUR_PACKAGES = ("mm1", "mm1_components")
LOCK_NAME = "requirements.lock"
ADDRESS = re.compile(r"""[^\s"',\[\]]+/manifests/([0-9a-f]{64})\.json""")
"""The address of a manifest: alone, within a text, or in a JSON list."""


def cache_key(step: str, code: str, inputs: dict[str, Any], fingerprints: dict[str, str]) -> str:
    """Return the cache key of an execution.

    Args:
        step: the step's name.
        code: its code digest.
        inputs: resolved inputs, plain data.
        fingerprints: input name -> its replacement in the key (for example the fingerprint of a folder).
    """
    values = {name: fingerprints.get(name, _without_address(value)) for name, value in inputs.items()}
    return digest_of(canonical_json({"step": step, "code": code, "inputs": values}).encode())


def _without_address(value: Any) -> Any:
    return ADDRESS.sub(r"\1", value) if isinstance(value, str) else value


def folder_fingerprint(folder: Path) -> str:
    """Return the fingerprint of a local file or folder: a digest of relative names, sizes and modification times.

    Contents are not read, because a folder of raw data may contain terabytes. Touching a file therefore causes a cache miss,
    never a stale hit. Links are followed as they are when the files are read; hidden files count, too.
    """
    from mm1.data.prepare.locations.walk import LocalFile, walk

    above, name = (folder.parent, folder.name) if folder.is_file() else (folder, "")
    entries = [
        [item.name, item.status.st_size, item.status.st_mtime_ns] if isinstance(item, LocalFile) else [*item]
        for item in walk(str(above), name, hidden=True)
    ]
    return digest_of(canonical_json(sorted(entries, key=lambda entry: str(entry[0]))).encode())


@cache
def code_digest(module: str) -> str:
    """Return the digest of the sources in a module's static import closure (:func:`import_closure`), and of the lock."""
    digest = hashlib.sha256()
    for name, path in sorted(import_closure(module).items()):
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
        digest.update(b"\0")
    lock = _lock_file()
    digest.update(lock.read_bytes() if lock else b"no lock")
    return digest.hexdigest()


def import_closure(module: str) -> dict[str, Path]:
    """Return all modules that a module imports, directly or indirectly, also inside functions: name -> file.

    Modules of other projects are not part of the closure. A step outside this project has those of its own package, or the
    files next to it. Data files of a package (HTML templates) are not part of it; only the report has such files, and its
    step is never cached.
    """
    closure: dict[str, Path] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = _source(name, module.partition(".")[0])
        if name in closure or path is None:
            continue
        closure[name] = path
        queue.extend(_imports(name, path))
    return closure


def _imports(name: str, path: Path) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("mm1."):
            names.add(node.value)  # a module named in a string: `torchrun -m mm1.train`, lazy registries
    return names


@cache
def _source(module: str, own: str) -> Path | None:
    """Return the file of a module that belongs to a closure, without importing it.

    Args:
        module: its name.
        own: the package, or the single file, that contains the step.
    """
    top, *rest = module.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    if top not in (*OUR_PACKAGES, own):
        neighbor = _location(own).with_name(f"{top}.py")
        return neighbor if _location(own).suffix == ".py" and neighbor.is_file() else None
    base = _location(top).joinpath(*rest)
    if base.suffix == ".py":
        return base
    for path in (base.with_suffix(".py") if rest else base / "__init__.py", base / "__main__.py", base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _location(top: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = importlib.util.find_spec(top)
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    return Path(folder or (spec and spec.origin) or top)


def _lock_file() -> Path | None:
    parents = Path(__file__).resolve().parents
    return next((folder / LOCK_NAME for folder in parents if (folder / LOCK_NAME).is_file()), None)
