"""Private folders at predictable paths, such as caches in a temporary folder that all users share."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from mm1.config.values import quoted
from mm1.errors import ConfigurationError

PRIVATE_MODE = 0o700


def private_folder(path: Path) -> Path:
    """Create a folder that only this user can enter, or check an existing one.

    Args:
        path: the folder; those above it are created, too.

    Raises:
        ConfigurationError: it is a link or a file, belongs to another user, or others could write to it: what is in it may be
            theirs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_MODE)
    state = path.lstat()
    if problem := _problem(state):
        raise ConfigurationError(
            f"folder {quoted(str(path))}: expected a folder of user {os.geteuid()} with mode 0700, got {problem}; "
            "delete it, or set TMPDIR to a folder of your own"
        )
    if stat.S_IMODE(state.st_mode) & 0o077:
        path.chmod(PRIVATE_MODE)
    return path


def _problem(state: os.stat_result) -> str:
    if stat.S_ISLNK(state.st_mode):
        return "a link"
    if not stat.S_ISDIR(state.st_mode):
        return "no folder"
    if state.st_uid != os.geteuid():
        return f"a folder of user {state.st_uid}"
    return f"mode {stat.S_IMODE(state.st_mode):04o}" if state.st_mode & 0o022 else ""
