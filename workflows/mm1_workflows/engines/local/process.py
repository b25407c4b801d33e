"""A task as a local process: argv, start, outcome, and stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from mm1 import machine
from mm1.errors import DataError, Ending, Outcome
from mm1_components.ranks.train import FIGURES_FILE
from mm1_components.wrapper.arguments import LAUNCHER_FLAG
from mm1_workflows.argo.document import PROGRESS_FILE
from mm1_workflows.argo.expressions import substitute
from mm1_workflows.argo.graph import Template
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.state import Instance
from mm1_workflows.engines.local.stopping import descendants, kill_tree

TAIL_BYTES = 4000


def local_paths(template: Template, folder: Path) -> dict[str, Path]:
    """Return the local paths of a template's files: path in the container -> path in the run's folder."""
    paths = {path: folder / "out" / name for name, path in template.outputs.items()}
    paths |= {path: folder / Path(path).name for path in template.artifacts.values()}
    return paths | {PROGRESS_FILE: folder / "progress"}


def argv_of(template: Template, folder: Path, lookup: Callable[[str], str]) -> list[str]:
    """Return the task's argv on this machine, with local paths, this interpreter, and values for references.

    Paths are substituted before values, so a value that looks like a path of the container does not change. The launcher option
    is removed, so that a training step starts its ranks on this machine.
    """
    paths = sorted(local_paths(template, folder).items(), key=lambda item: -len(item[0]))

    def localized(argument: str) -> str:
        for inside, outside in paths:
            argument = argument.replace(inside, str(outside))
        return argument

    arguments = [item for item in template.argv if not (template.launches and item.startswith(f"{LAUNCHER_FLAG}="))]
    argv = [substitute(localized(item), lookup) for item in arguments]
    return [sys.executable, *argv[1:]] if argv and argv[0] in ("python", "python3") else argv


def argument(argv: list[str], flag: str) -> str:
    """Return the value of ``--flag=value`` in an argv; empty if it is absent."""
    return next((word.removeprefix(f"{flag}=") for word in argv if word.startswith(f"{flag}=")), "")


def start(instance: Instance, argv: list[str], env: Mapping[str, str], folder: RunFolder) -> None:
    """Start an attempt with its output in ``log.txt``.

    Args:
        instance: the task.
        argv: its command and arguments.
        env: environment variables of its container.
        folder: folder of the run.

    Raises:
        OSError: the command cannot be started.
    """
    path = folder.task(instance.key)
    shutil.rmtree(path / "out", ignore_errors=True)
    (path / "out").mkdir(parents=True)
    for name in ("progress", FIGURES_FILE):
        (path / name).unlink(missing_ok=True)
    instance.attempts += 1
    instance.progress, instance.figures, instance.overtime = None, "", None
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
            start_new_session=True,  # Ctrl-C only reaches the runner, which passes it on once
            pass_fds=[folder.lock_handle] if folder.lock_handle >= 0 else [],
            preexec_fn=partial(_begin, os.getpid(), instance.cores),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **machine.THREAD_SETTINGS, **env},
        )


def _begin(parent: int, cores: frozenset[int]) -> None:
    """Prepare a task's process, between fork and exec."""
    machine.die_with_parent(signal.SIGTERM, parent)  # SIGTERM, to let it save
    if cores:
        os.sched_setaffinity(0, cores)  # from which the number of its threads follows


def read_progress(path: Path) -> tuple[int, int] | None:
    """Read ``done/total`` from a task's progress file."""
    try:
        done, total = path.read_text().split("/")
        return int(done), int(total)
    except (OSError, ValueError):
        return None


def read_figures(folder: Path) -> str:
    """Read the line of metrics next to a task's progress file; empty without a file."""
    path = folder / FIGURES_FILE
    return path.read_text().strip() if path.is_file() else ""


def read_outputs(template: Template, folder: Path) -> dict[str, str]:
    """Read the output parameters of a task, without the newline at their end, as Argo does.

    Raises:
        DataError: an output is missing, or is not text.
    """
    paths = local_paths(template, folder)
    return {name: _text_of(name, paths[path]) for name, path in template.outputs.items()}


def _text_of(name: str, path: Path) -> str:
    try:
        return path.read_bytes().decode().removesuffix("\n")
    except FileNotFoundError:
        raise DataError(f"succeeded, but did not write its output {name}: {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"its output {name} is not UTF-8 text (byte {error.start}): {path}") from None
    except OSError as error:
        raise DataError(f"its output {name} cannot be read: {path}: {error.strerror}") from None


def ending_of(code: int, record: Mapping[str, object], log: Path) -> Ending:
    """Return how an attempt failed, from the signal, the run record, or the end of the log.

    Args:
        code: exit code of the process; negative for a signal.
        record: run record of the step; empty for other commands.
        log: log of the task.
    """
    outcome = Outcome.from_exit_code(code)
    if code < 0:
        hint = " (perhaps the system ran out of memory)" if -code == signal.SIGKILL else ""
        return Ending(outcome=outcome, message=f"killed by {signal.Signals(-code).name}{hint}")
    if record.get("state") == "failed" and record.get("message"):
        return Ending(outcome=outcome, message=str(record["message"]))
    tail = log_tail(log)
    return Ending(outcome=outcome, message=f"exit code {code}" + (f":\n{tail}" if tail else ""))


def log_tail(path: Path, num_lines: int = 5) -> str:
    """Return the last lines of a log."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-num_lines:])


def stop(instances: Iterable[Instance], *, at_once: Callable[[], bool] = lambda: False) -> None:
    """Send SIGTERM to the tasks, wait for their grace periods, and send SIGKILL to the remaining processes and children.

    Only the task's own process gets SIGTERM, as in a pod: a step passes it on to its children.

    Args:
        instances: running tasks.
        at_once: polled while waiting; true ends the grace period.
    """
    running = [(item, item.process) for item in instances if item.process is not None and item.process.poll() is None]
    trees = {process.pid: descendants(process.pid) for _, process in running}
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
        kill_tree(process, [*trees[process.pid], *(descendants(process.pid) if late else [])])
