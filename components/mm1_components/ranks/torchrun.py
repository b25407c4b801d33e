"""The ranks of one machine as processes: start torchrun, follow it, turn its end into a result or a typed error.

Used by the training steps in place (all ranks on this machine) and by the program of a node on a cluster, which is given the
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
from pathlib import Path

from mm1 import machine
from mm1.errors import Ending, Mm1Error, NetworkError, Outcome, OutOfMemory, Preempted, cause
from mm1.train.config import TrainJob, TrainResult

log = logging.getLogger("mm1")

MODULE = "mm1.train.__main__"
ALONE = ("--standalone",)
"""Rendezvous of ranks that are all on this machine."""
PROCESS_SETTINGS = {
    # Threads that wait for each other spin for a tenth of a millisecond, then sleep. Without a bound, one other busy process
    # beside two spinning threads on two cores makes a step thirty times slower; without any spinning a step is 5 % slower.
    "GOMP_SPINCOUNT": "5000",
    # glibc gives large buffers back to the system and faults them in again at each step: a quarter of a CPU step's time.
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
    """Run this machine's ranks until they end.

    Args:
        job: what to do; result and error files go to its ``folder``, which must exist.
        processes: ranks of this machine.
        take: gets each line that the ranks write.
        grace_s: seconds between a request to stop and the end by force.
        rendezvous: torchrun's options about the other machines.

    Returns:
        The result, on the machine of rank 0; None on the others.

    Raises:
        Mm1Error: of the class of the rank that failed; Preempted after a request to stop.
    """
    folder = Path(job.folder)
    threads = job.threads or max(1, machine.cores() // processes)
    job = job.model_copy(update={"threads": threads})
    config = folder / "run.json"
    config.write_text(job.model_dump_json())
    for former in folder.glob("error-rank*.json"):  # of a launch before this one
        former.unlink()
    killed_before = machine.oom_kills()
    code = _follow(_start(config, processes, threads, folder, rendezvous), take, grace_s)
    result_file = folder / "result.json"
    if code in (Outcome.DONE, Outcome.PREEMPTED) and result_file.is_file():
        return TrainResult.model_validate_json(result_file.read_bytes())  # it may have come to its end just when asked to stop
    if code == Outcome.DONE and not any(folder.glob("error-rank*.json")):
        return None
    if machine.oom_kills() > killed_before:
        raise OutOfMemory("a rank was killed: out of memory; set a smaller train.micro_batch, or give the step more memory")
    raise _failure(folder, code)


def _start(config: Path, processes: int, threads: int, folder: Path, rendezvous: Sequence[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc_per_node", str(processes)]
    command = [*launcher, *(numa_options(machine.affinity()) if processes <= machine.num_gpus() else ())]
    environment = os.environ | PROCESS_SETTINGS | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [*command, "-m", MODULE.removesuffix(".__main__"), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and we pass it on
            preexec_fn=machine.die_with_parent,  # safe: no other threads here
        )


def _follow(process: subprocess.Popen[str], take: Callable[[str], None], grace_s: int) -> int:
    """Read the trainer's lines until it ends; a request to stop is passed on and waited for."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            take(line)
        return process.wait()
    except Preempted:
        log.info("asked to stop: the trainer finishes its step and saves a checkpoint")
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
    """Ask the ranks themselves, not torchrun: it would kill them after 30 seconds, step finished or not."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ranks = [int(pid) for pid in children.read_text().split()] if children.is_file() else []
    for pid in ranks or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _failure(folder: Path, code: int) -> Mm1Error:
    """The error of the rank that failed first, as far as the error files tell."""
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
    """Return the option of torchrun that keeps the threads of a rank on the NUMA node of its GPU, if that can be.

    torchrun ends the run if ``numactl`` is missing or a rank is left without a core, so both are looked at before.

    Args:
        allowed: cores that this process may use; all nodes must have some of them.
        nodes: where Linux describes its NUMA nodes.
    """
    lists = [file.read_text().strip() for file in sorted(nodes.glob("node[0-9]*/cpulist"))]
    cores_of_nodes = [_cores_of_list(text) for text in lists if text]
    if len(cores_of_nodes) < 2 or not all(own & allowed for own in cores_of_nodes):
        return ()
    if shutil.which("numactl") is None:
        log.info("this machine has %d NUMA nodes; with numactl installed, each rank would stay at its own", len(cores_of_nodes))
        return ()
    return ("--numa-binding", "node")


def _cores_of_list(text: str) -> set[int]:
    """Cores of a list as Linux writes it: 0-3,8-11."""
    ranges = [part.split("-") for part in text.split(",")]
    return {core for first, *last in ranges for core in range(int(first), int((last or [first])[0]) + 1)}
