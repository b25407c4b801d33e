"""Several processes on this machine that answer one job, each a share of its parts; one per GPU.

job.json -> python -m mm1.evals --job FILE --shard I/N, N times -> replies -> this process judges
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mm1 import machine
from mm1.errors import Ending, Outcome
from mm1.evals.asking import OnProgress
from mm1.evals.job import RunningJob

POLL_S = 0.5


def processes_for(given: int) -> int:
    """Return the number of processes: the given one, or for 0 one per GPU."""
    return given or max(1, machine.num_gpus())


def answer_in_processes(running: RunningJob, processes: int, folder: Path, on_progress: OnProgress) -> None:
    """Answer all parts of a job in several processes; their replies are kept in the job's folder.

    Args:
        running: the job.
        processes: number of processes.
        folder: folder for the job file and for errors.
        on_progress: called with the prompts of finished parts.

    Raises:
        Mm1Error: the error of a process; the others are stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.json"
    path.write_text(running.job.model_dump_json())
    started = [_start(path, number, processes) for number in range(processes)]
    try:
        while any(process.poll() is None for process in started):
            if any(process.poll() for process in started):
                break
            missing = sum(len(part.positions) for part in running.missing())
            on_progress(running.num_prompts - missing, running.num_prompts)
            time.sleep(POLL_S)
    finally:
        _stop(started)
    for number, process in enumerate(started):
        if process.returncode not in (0, -signal.SIGTERM):
            raise _ending(path, number, process.returncode).error


def error_file(job: Path, number: int) -> Path:
    """Return the file in which a process reports its error."""
    return job.with_name(f"error-{number}.json")


def _start(path: Path, number: int, processes: int) -> subprocess.Popen[bytes]:
    error_file(path, number).unlink(missing_ok=True)
    environment = {**os.environ, "LOCAL_RANK": str(number)}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, machine.cores() // processes)))
    command = [sys.executable, "-m", "mm1.evals", "--job", str(path), "--shard", f"{number}/{processes}"]
    return subprocess.Popen(command, env=environment, stdout=sys.stderr.fileno() if _has_number(sys.stderr) else None)


def _has_number(stream: object) -> bool:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return isinstance(stream.fileno(), int)  # type: ignore[attr-defined]
    return False


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        process.wait()


def _ending(path: Path, number: int, code: int) -> Ending:
    file = error_file(path, number)
    if file.is_file() and (ending := Ending.from_json(file.read_bytes())):
        return ending
    if code == -signal.SIGKILL:
        return Ending(
            outcome=Outcome.OUT_OF_MEMORY,
            message="killed, probably out of memory: use fewer processes or a smaller batch_size",
            where=f"shard {number}",
        )
    return Ending(outcome=Outcome.UNHANDLED, message=f"ended with exit code {code}", where=f"shard {number}")
