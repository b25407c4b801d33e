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
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path

from mm1 import machine
from mm1.errors import Ending, Mm1Error, NetworkError, Outcome, OutOfMemory, Preempted, cause
from mm1.train.__main__ import STARTER_VARIABLE
from mm1.train.config import TrainJob, TrainResult

log = logging.getLogger("mm1")

MODULE = "mm1.train.__main__"
ALONE = ("--standalone",)
"""Rendezvous options if all ranks are on this machine."""
PROCESS_SETTINGS = {
    # Waiting threads spin for a tenth of a millisecond, then sleep. Without a limit, a busy process next to two spinning
    # threads on two cores makes a step thirty times slower; without spinning, a step is 5 % slower.
    "GOMP_SPINCOUNT": "5000",
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
    for stale in folder.glob("error-rank*.json"):  # of an earlier launch
        stale.unlink()
    killed_before = machine.oom_kills()
    code = _follow(_start(config, processes, threads, folder, rendezvous), take, grace_s)
    result_file = folder / "result.json"
    if code in (Outcome.DONE, Outcome.PREEMPTED) and result_file.is_file():
        return TrainResult.model_validate_json(result_file.read_bytes())  # it may have finished just before the request to stop
    if code == Outcome.DONE and not any(folder.glob("error-rank*.json")):
        return None
    if machine.oom_kills() > killed_before:
        raise OutOfMemory("a rank was killed: out of memory; reduce train.micro_batch, or request more memory for the step")
    raise _failure(folder, code)


def _start(config: Path, processes: int, threads: int, folder: Path, rendezvous: Sequence[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc_per_node", str(processes)]
    command = [*launcher, *(numa_options(machine.affinity()) if processes <= machine.num_gpus() else ())]
    environment = os.environ | PROCESS_SETTINGS | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment[STARTER_VARIABLE] = str(os.getpid())
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [*command, "-m", MODULE.removesuffix(".__main__"), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal only reaches this process, which passes it on
            preexec_fn=partial(machine.die_with_parent, parent=os.getpid()),  # safe: this process has no other threads
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


def _signal_ranks(process: subprocess.Popen[str]) -> None:
    """Send SIGTERM to the ranks, not to torchrun, which would kill them after 30 seconds even within a step."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ranks = [int(pid) for pid in children.read_text().split()] if children.is_file() else []
    for pid in ranks or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _failure(folder: Path, code: int) -> Mm1Error:
    """Return the error of the rank that failed first, according to the error files."""
    paths = sorted(folder.glob("error-rank*.json"))
    endings = [ending for path in paths if (ending := Ending.from_json(path.read_bytes()))]
    first = cause(endings, stops_others=True)
    if first is None:
        if code == Outcome.PREEMPTED:
            return Preempted("stopped before the first step; run the same command again")
        sys.stderr.write((folder / "stderr.txt").read_text(errors="replace")[-4000:])
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
