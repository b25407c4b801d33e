"""The folder of a local run: ``runs/<run>/{run.json,lock,<task>/{log.txt,out/,<artifacts>}}``.

Only one process may use it at a time. The tasks' processes also hold the lock: if the runner was killed, the same task cannot
be started again while the old process is still writing its checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mm1.errors import ConfigurationError, from_os_error
from mm1.store.local import atomic_path
from mm1_components.wrapper.records import check_run_name

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
ORPHANS_WAIT_S = 90.0


class RunFolder:
    """Folder with the logs, outputs and artifacts of a local run."""

    def __init__(self, base: Path, run: str) -> None:
        check_run_name(run)
        self.run = run
        self.path = base / run
        self.lock_handle = -1

    @contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Lock the folder.

        Raises:
            ConfigurationError: another run is using it, or the folder cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise from_os_error(error) from None
        try:
            self._acquire(handle)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            self.lock_handle = handle
            yield self
        finally:
            self.lock_handle = -1
            os.close(handle)

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + ORPHANS_WAIT_S
        warned = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                owner = os.pread(handle, 32, 0).decode().strip()
                if not owner.isdigit() or _alive(int(owner)) or time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"run folder {self.path} is in use (process {owner or 'unknown'}): wait for it, or choose another --run"
                    ) from None
                if not warned:
                    log.warning("waiting for a task of the previous run, which is still saving")
                    warned = True
                time.sleep(0.2)

    def open_run(self, workflow: str, parameters: dict[str, str], command: str) -> None:
        """Start or resume the run.

        Raises:
            ConfigurationError: the folder belongs to another version or another workflow.
        """
        file = self.path / "run.json"
        previous = self._previous(file)
        if previous and previous["workflow"] != workflow:
            raise ConfigurationError(
                f"run folder {self.path} belongs to workflow {previous['workflow']}, not {workflow}: choose another --run"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        value = {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "workflow": workflow,
            "parameters": parameters,
            "command": command,
            "created": previous.get("created", now),
            "started": now,
        }
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def _previous(self, file: Path) -> dict[str, Any]:
        if not file.is_file():
            return {}
        try:
            previous = json.loads(file.read_text())
        except ValueError:
            previous = {}
        if previous.get("schema_version") != SCHEMA_VERSION or "workflow" not in previous:
            raise ConfigurationError(
                f"run folder {self.path} was written by another version of MM1 "
                f"(this one reads schema {SCHEMA_VERSION}): choose another --run, or remove the folder"
            )
        return dict(previous)

    def task(self, key: str) -> Path:
        """Return the folder of a task."""
        return self.path / key


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
