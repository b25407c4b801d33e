"""Folders that appear only when they are complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mm1.errors import ConfigurationError

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


def check_new(folder: Path, *, force: bool = False) -> None:
    """Check that a model can be written to a folder.

    Args:
        folder: the folder.
        force: whether a model that is already there is replaced.

    Raises:
        ConfigurationError: there is a file, or a folder that is not empty and not replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file: give a new folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise ConfigurationError(f"{folder} already exists and is not empty: give a new folder, or --force to replace a model")
    if not any((folder / name).is_file() for name in (CONFIG, ADAPTER_CONFIG)):
        raise ConfigurationError(f"{folder} is not the folder of a model (no {CONFIG}), so --force does not replace it")


@contextmanager
def new_folder(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a folder to write to; it becomes the target when the block ends, and is removed if the block fails.

    Args:
        folder: the target.
        force: whether a model that is already there is replaced.

    Raises:
        ConfigurationError: see :func:`check_new`.
    """
    folder = folder.expanduser().resolve()
    check_new(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        made = Path(name) / "new"
        made.mkdir()
        yield made
        if folder.is_dir():
            folder.replace(Path(name) / "old")
        made.replace(folder)
