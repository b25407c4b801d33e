"""The ranks of one machine as processes: start torchrun, follow it, return its result or raise a typed error.

Used by the training steps if all ranks run on this machine, and by the program of a node on a cluster, which passes the
rendezvous of its gang::

    TrainJob -> run.json -> torchrun -m mm1.train -> lines -> result.json | error files -> outcome
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mm1 import machine
from mm1.errors import Ending, Mm1Error, NetworkError, Outcome, OutOfMemory, Preempted, cause
from mm1.monitoring.logs import LogSettings
from mm1.store.open import open_store
from mm1.train import run_files
from mm1.train.config import TrainJob, TrainResult
from mm1.train.run_files import FLIGHT_FOLDER
from mm1_components.ranks.stuck import StuckWatch

log = logging.getLogger("mm1")

MODULE = "mm1.train.__main__"
ALONE = ("--standalone",)
"""Rendezvous options if all ranks are on this machine."""
GUARD_POLL_S = 1.0
STACKS_S = 2.0
"""Time for the ranks to write their stacks, before they are killed."""
NCCL_RECORD = "nccl-rank-"
PROCESS_SETTINGS = {
    **machine.THREAD_SETTINGS,
    # By default, glibc returns large buffers to the system and faults them in at each step: a quarter of a CPU step's time.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}


def run_ranks(
    job: TrainJob,
    processes: int,
    take: Callable[[str], None],
    grace_s: int,
    rendezvous: Sequence[str] = ALONE,
) -> TrainResult | None:
    """Run this machine's ranks to completion.

    Args:
        job: the training job; result and error files are written to its ``folder``, which must exist.
        processes: number of ranks on this machine.
        take: callback for each line of the ranks' output.
        grace_s: seconds between a request to stop and SIGKILL.
        rendezvous: torchrun's rendezvous options.

    Returns:
        The result, on the machine of rank 0; None on the others.

    Raises:
        Mm1Error: the error of the rank that failed; Preempted after a request to stop.
    """
    folder = Path(job.folder)
    threads = job.threads or max(1, machine.cores() // processes)
    job = job.model_copy(update={"threads": threads})
    config = folder / "run.json"
    config.write_text(job.model_dump_json())
    for stale in (*folder.glob("error-rank*.json"), *_recorded(folder)):  # of an earlier launch
        stale.unlink()
    killed_before = machine.oom_kills()
    process = _start(config, processes, threads, folder, rendezvous)
    with Guard(process, StuckWatch(job.config)) as guard:
        code = _follow(process, guard.around(take), grace_s)
    result_file = folder / "result.json"
    if code in (Outcome.DONE, Outcome.PREEMPTED) and result_file.is_file():
        return TrainResult.model_validate_json(result_file.read_bytes())  # it may have finished just before the request to stop
    if code == Outcome.DONE and not any(folder.glob("error-rank*.json")):
        return None
    if machine.oom_kills() > killed_before:
        raise OutOfMemory("a rank was killed: out of memory; reduce train.micro_batch, or request more memory for the step")
    error = NetworkError(guard.reason) if guard.reason else _failure(folder, code, job.logs)
    raise type(error)(f"{error}{_keep_records(job, folder)}")


class Guard:
    """Ends ranks that are stuck, with their stacks written first; a thread, because the output is read without a time limit.

    Args:
        process: torchrun.
        watch: decides.
    """

    def __init__(self, process: subprocess.Popen[str], watch: StuckWatch, poll_s: float = GUARD_POLL_S) -> None:
        self.process, self.watch, self.poll_s = process, watch, poll_s
        self.reason = ""
        """Why the ranks were ended; empty if they were not."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="stuck watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def around(self, take: Callable[[str], None]) -> Callable[[str], None]:
        """Return a callback that also shows the lines to the watch."""

        def both(line: str) -> None:
            self.watch.take(line)
            take(line)

        return both

    def _run(self) -> None:
        while not self._ended.wait(self.poll_s):
            if reason := self.watch.reason():
                self.reason = reason
                log.error("%s; ending the ranks", reason)
                _signal_ranks(self.process, signal.SIGUSR1)
                self._ended.wait(STACKS_S)
                self.process.kill()  # the ranks end with it
                return


def _recorded(folder: Path) -> list[Path]:
    """Files of ranks whose collective did not finish, or that were stuck; empty ones say nothing."""
    return sorted(path for path in (folder / FLIGHT_FOLDER).glob("*") if path.stat().st_size)


def _keep_records(job: TrainJob, folder: Path) -> str:
    """Store these files with the run, and return where for the error message."""
    paths = _recorded(folder)
    if not paths:
        return ""
    prefix = f"{FLIGHT_FOLDER}/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    try:
        store = open_store(job.store)
        for path in paths:
            run_files.put_file(store, job.key, f"{prefix}-{path.name}", path)
    except (Mm1Error, OSError) as error:
        log.warning("cannot store the last collectives and stacks of the ranks: %s", error)
        return ""
    return f"; last collectives and stacks of the ranks: {store.uri}/{run_files.address(job.key, prefix)}-*"


def _start(config: Path, processes: int, threads: int, folder: Path, rendezvous: Sequence[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc_per_node", str(processes)]
    command = [*launcher, *(numa_options(machine.affinity()) if processes <= machine.num_gpus() else ())]
    records = folder / FLIGHT_FOLDER
    records.mkdir(exist_ok=True)
    nccl = {
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": f"{records / NCCL_RECORD}",
    }
    environment = os.environ | PROCESS_SETTINGS | nccl | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment[machine.STARTER_VARIABLE] = str(os.getpid())
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [*command, "-m", MODULE.removesuffix(".__main__"), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal only reaches this process, which passes it on
            preexec_fn=partial(machine.die_with_parent, parent=os.getpid()),  # takes no lock that another thread may hold
        )


def _follow(process: subprocess.Popen[str], take: Callable[[str], None], grace_s: int) -> int:
    """Read the trainer's output until it exits; pass on a request to stop and wait for the exit."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            take(line)
        return process.wait()
    except Preempted:
        log.info("stopping: the trainer finishes its step and saves a checkpoint")
        _signal_ranks(process)
        timer = threading.Timer(grace_s, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                take(line)
            process.wait()
        finally:
            timer.cancel()
        return int(Outcome.PREEMPTED)
    finally:
        if process.poll() is None:
            process.kill()


def _signal_ranks(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """Send a signal to the ranks, not to torchrun, which would kill them 30 seconds after SIGTERM even within a step."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ranks = [int(pid) for pid in children.read_text().split()] if children.is_file() else []
    for pid in ranks or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _failure(folder: Path, code: int, logs: LogSettings) -> Mm1Error:
    """Return the error of the rank that failed first, according to the error files."""
    paths = sorted(folder.glob("error-rank*.json"), key=lambda path: path.stat().st_mtime_ns)
    endings = [ending for path in paths if (ending := Ending.from_json(path.read_bytes()))]
    first = cause(endings, stops_others=True)
    if first is None:
        if code == Outcome.PREEMPTED:
            return Preempted("stopped before the first step; run the same command again")
        tail = (folder / "stderr.txt").read_text(errors="replace")[-4000:]
        sys.stderr.writelines(map(logs.whole_line, tail.splitlines(keepends=True)))
        if any(path.name.startswith(NCCL_RECORD) for path in _recorded(folder)):
            return NetworkError("NCCL ended a collective that did not finish within train.collective_timeout_s")
        return NetworkError(f"a trainer process exited without reporting an error (torchrun: {code}): killed or out of memory")
    return first.error if first.outcome is Outcome.UNHANDLED else replace(first, where="").error


def numa_options(allowed: AbstractSet[int], nodes: Path = Path("/sys/devices/system/node")) -> tuple[str, ...]:
    """Return torchrun's option that binds a rank's threads to the NUMA node of its GPU, if possible.

    torchrun fails if ``numactl`` is missing or a rank has no core, so both are checked first.

    Args:
        allowed: cores that this process may use; each node must have at least one of them.
        nodes: folder in which Linux describes its NUMA nodes.
    """
    lists = [file.read_text().strip() for file in sorted(nodes.glob("node[0-9]*/cpulist"))]
    cores_of_nodes = [_cores_of_list(text) for text in lists if text]
    if len(cores_of_nodes) < 2 or not all(own & allowed for own in cores_of_nodes):
        return ()
    if shutil.which("numactl") is None:
        log.info("this machine has %d NUMA nodes; install numactl to bind each rank to one of them", len(cores_of_nodes))
        return ()
    return ("--numa-binding", "node")


def _cores_of_list(text: str) -> set[int]:
    """Parse a list of cores as written by Linux: 0-3,8-11."""
    ranges = [part.split("-") for part in text.split(",")]
    return {core for first, *last in ranges for core in range(int(first), int((last or [first])[0]) + 1)}
