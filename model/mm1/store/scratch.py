"""Scratch folders of steps: private, and locked while they are in use, so that those of killed steps can be removed."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mm1.store.private import PRIVATE_MODE

_NAME = re.compile(r"mm1-[0-9a-f]{12}-[0-9a-f]{8}")


@contextmanager
def scratch_folder(parent: Path, key: str) -> Iterator[Path]:
    """Yield a new folder that is removed afterwards.

    Args:
        parent: folder to create it in.
        key: cache key of the step, a hexadecimal digest.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"mm1-{key[:12]}-{secrets.token_hex(4)}"
    folder.mkdir(mode=PRIVATE_MODE)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def killed(parent: Path, min_age_s: float) -> Iterator[Path]:
    """Find this user's scratch folders whose step no longer runs and that are older than ``min_age_s`` seconds."""
    with suppress(OSError):
        for folder in sorted(parent.iterdir()):
            if _NAME.fullmatch(folder.name) and _is_killed(folder, time.time() - min_age_s):
                yield folder


def last_change(folder: Path) -> float:
    """Return the time of the last change of anything in a folder, s since 1970."""
    times = [folder.lstat().st_mtime]
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                times.append(Path(parent, name).lstat().st_mtime)
    return max(times)


def _is_killed(folder: Path, before: float) -> bool:
    with suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid() or last_change(folder) >= before:
            return False
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)
        return True
    return False
