"""Copies of the toy world's benchmarks on this machine, so that evaluations do not write 20,000 small files each.

A copy is identified by everything that it depends on: the code of :mod:`mm1.world`, the image library, and the configuration.
It lies in a folder that only this user can enter, and is removed a week after its last use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import PIL

import mm1.world
from mm1.config.resolve import canonical_json
from mm1.store.base import digest_of
from mm1.store.private import private_folder
from mm1.world.config import WorldConfig
from mm1.world.write import write_part

KEPT_S = 7 * 86_400
"""Seconds after its last use for which a copy is kept."""


def world_copy(part: str, config: WorldConfig) -> Path:
    """Return a folder with a part of the toy world, which must not be changed; written if there is none.

    Args:
        part: one of :data:`mm1.world.write.PARTS`.
        config: seed and sizes.
    """
    parent = private_folder(Path(tempfile.gettempdir()) / f"mm1-worlds-{os.geteuid()}")
    folder = parent / f"{part}-{_digest(config)}"
    with _locked(parent):
        if folder.is_dir():
            os.utime(folder)
        else:
            _remove_old(parent)
            write_part(part, folder, config)
    return folder


def _digest(config: WorldConfig) -> str:
    return digest_of(canonical_json([_code(), PIL.__version__, config.model_dump(mode="json")]).encode())


@cache
def _code() -> str:
    return digest_of(b"".join(path.read_bytes() for path in sorted(Path(mm1.world.__file__).parent.glob("*.py"))))


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Lock the copies, so that processes of one machine do not write the same one at the same time."""
    handle = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_old(parent: Path) -> None:
    """Remove copies that were not used for a long time, and what killed processes left."""
    for path in parent.iterdir():
        if path.name.startswith(".") or path.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(path, ignore_errors=True)
