"""One task as a process of this machine: its argv, start, end, and stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped] # its stubs are not among the dependencies

from mm1 import machine
from mm1.errors import Ending, Outcome
from mm1_components.ranks.train import FIGURES_FILE
from mm1_components.wrapper.arguments import LAUNCHER_FLAG
from mm1_workflows.argo.document import PROGRESS_FILE
from mm1_workflows.argo.expressions import substitute
from mm1_workflows.argo.graph import Template
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.state import Instance

TAIL_BYTES = 4000


def local_paths(template: Template, folder: Path) -> dict[str, Path]:
    """Paths that the template fixes inside its container -> where they lie in the run's folder."""
    paths = {path: folder / "out" / name for name, path in template.outputs.items()}
    paths |= {path: folder / Path(path).name for path in template.artifacts.values()}
    return paths | {PROGRESS_FILE: folder / "progress"}


def argv_of(template: Template, folder: Path, lookup: Callable[[str], str]) -> list[str]:
    """The task's argv on this machine: local paths and this interpreter, then values for references.

    Paths are put in before values, so that a value that looks like a path of the container stays as it is. A step that would
    start its ranks on a cluster is not told how, so it starts them here.
    """
    paths = sorted(local_paths(template, folder).items(), key=lambda item: -len(item[0]))

    def placed(word: str) -> str:
        for inside, outside in paths:
            word = word.replace(inside, str(outside))
        return word

    words = [word for word in template.argv if not (template.launches and word.startswith(f"{LAUNCHER_FLAG}="))]
    argv = [substitute(placed(word), lookup) for word in words]
    return [sys.executable, *argv[1:]] if argv and argv[0] in ("python", "python3") else argv


def argument(argv: list[str], flag: str) -> str:
    """The value of ``--flag=value`` in an argv; empty when it is not there."""
    return next((word.removeprefix(f"{flag}=") for word in argv if word.startswith(f"{flag}=")), "")


def start(instance: Instance, argv: list[str], folder: RunFolder) -> None:
    """Start an attempt; its output goes to ``log.txt``.

    Raises:
        OSError: the command cannot be started.
    """
    path = folder.task(instance.key)
    shutil.rmtree(path / "out", ignore_errors=True)
    (path / "out").mkdir(parents=True)
    for name in ("progress", FIGURES_FILE):
        (path / name).unlink(missing_ok=True)
    instance.attempts += 1
    instance.progress, instance.figures = None, ""
    instance.attempt_started = time.monotonic()
    instance.started = instance.started or instance.attempt_started
    with (path / "log.txt").open("wb" if instance.attempts == 1 else "ab") as log:
        if instance.attempts > 1:
            log.write(f"--- attempt {instance.attempts}\n".encode())
            log.flush()
        instance.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the runner only, which passes it on once
            pass_fds=[folder.lock_handle] if folder.lock_handle >= 0 else [],
            preexec_fn=partial(machine.die_with_parent, signal.SIGTERM),  # to save what it has
            env={**os.environ, "PYTHONUNBUFFERED": "1", "GOMP_SPINCOUNT": "5000", **instance.task.template.env},
        )


def read_progress(path: Path) -> tuple[int, int] | None:
    """``done/total`` of a task's progress file."""
    try:
        done, total = path.read_text().split("/")
        return int(done), int(total)
    except (OSError, ValueError):
        return None


def read_figures(folder: Path) -> str:
    """The line of figures that a task may leave beside its progress file; empty without a file."""
    path = folder / FIGURES_FILE
    return path.read_text().strip() if path.is_file() else ""


def read_outputs(template: Template, folder: Path) -> dict[str, str]:
    """Output parameters that the task wrote.

    Raises:
        FileNotFoundError: one is missing.
    """
    paths = local_paths(template, folder)
    return {name: paths[path].read_text() for name, path in template.outputs.items()}


def ending_of(code: int, record: Mapping[str, object], log: Path) -> Ending:
    """How an attempt failed: by the signal, in the words of its run record, or with the end of its log.

    Args:
        code: of the process; negative for a signal.
        record: the step's run record; empty for other commands.
        log: what it wrote.
    """
    outcome = Outcome.from_exit_code(code)
    if code < 0:
        hint = " (perhaps the system ran out of memory)" if -code == signal.SIGKILL else ""
        return Ending(outcome=outcome, message=f"was ended by {signal.Signals(-code).name}{hint}")
    if record.get("state") == "failed" and record.get("message"):
        return Ending(outcome=outcome, message=str(record["message"]))
    tail = log_tail(log)
    return Ending(outcome=outcome, message=f"exit code {code}" + (f":\n{tail}" if tail else ""))


def log_tail(path: Path, num_lines: int = 5) -> str:
    """The last lines of a log."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-num_lines:])


def stop(instances: Iterable[Instance], *, at_once: Callable[[], bool] = lambda: False) -> None:
    """SIGTERM to the tasks, each its grace period to save, then SIGKILL to what is left with its children.

    Only the task's own process gets SIGTERM, as a pod's would: a step passes it on to what it started.

    Args:
        instances: running tasks.
        at_once: asked while waiting; true ends the grace period.
    """
    running = [(item, item.process) for item in instances if item.process is not None and item.process.poll() is None]
    trees = {process.pid: _descendants(process.pid) for _, process in running}
    for _, process in running:
        process.terminate()
    started = time.monotonic()
    while any(process.poll() is None for _, process in running) and not at_once():
        waited = time.monotonic() - started
        if all(process.poll() is not None or waited > item.task.template.grace_s for item, process in running):
            break
        time.sleep(0.05)
    for _, process in running:
        late = process.poll() is None
        kill_tree(process, [*trees[process.pid], *(_descendants(process.pid) if late else [])])


def kill_tree(process: subprocess.Popen[bytes], descendants: Iterable[psutil.Process] = ()) -> None:
    """SIGKILL to a process and to what it started and did not take along (torchrun gives its ranks own sessions)."""
    for child in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()  # psutil compares the start time: a reused pid is left alone
    if process.poll() is None:
        process.kill()
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
