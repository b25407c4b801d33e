"""The ranks of one machine as processes: start torchrun, follow it, turn its end into a result or a typed error.

Used by the training steps in place (all ranks on this machine) and by the program of a node on a cluster, which is given the
rendezvous of its gang::

    TrainJob -> run.json -> torchrun -m mm1.train -> lines -> result.json | error files -> outcome
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from mm1.errors import BY_OUTCOME, Mm1Error, NetworkError, Outcome, OutOfMemory, Preempted
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
LESS_TELLING = (Outcome.PREEMPTED, Outcome.NETWORK, Outcome.UNHANDLED)
"""Outcomes that a rank also has when another rank failed, the least telling first."""


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
    threads = job.threads or max(1, cores() // processes)
    job = job.model_copy(update={"threads": threads})
    config = folder / "run.json"
    config.write_text(job.model_dump_json())
    for former in folder.glob("error-rank*.json"):  # of a launch before this one
        former.unlink()
    killed_before = oom_kills()
    code = _follow(_start(config, processes, threads, folder, rendezvous), take, grace_s)
    result_file = folder / "result.json"
    if code in (Outcome.DONE, Outcome.PREEMPTED) and result_file.is_file():
        return TrainResult.model_validate_json(result_file.read_bytes())  # it may have come to its end just when asked to stop
    if code == Outcome.DONE and not any(folder.glob("error-rank*.json")):
        return None
    if oom_kills() > killed_before:
        raise OutOfMemory("the system killed a rank for want of memory: set a smaller train.micro_batch, or give it more")
    raise _failure(folder, code)


def _start(config: Path, processes: int, threads: int, folder: Path, rendezvous: Sequence[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc_per_node", str(processes)]
    command = [*launcher, *(beside_their_gpus(affinity()) if processes <= num_gpus() else ())]
    environment = os.environ | PROCESS_SETTINGS | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [*command, "-m", MODULE.removesuffix(".__main__"), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and we pass it on
            preexec_fn=_die_with_parent,  # safe: no other threads here
        )


def _die_with_parent() -> None:
    """Let the kernel end torchrun when this process is killed, so that nothing goes on training behind a new start."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


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
    records = [json.loads(path.read_bytes()) for path in sorted(folder.glob("error-rank*.json"))]
    stderr = (folder / "stderr.txt").read_text(errors="replace")
    if not records:
        if code == Outcome.PREEMPTED:
            return Preempted("stopped before the first step; run the same command again")
        sys.stderr.write(stderr[-4000:])
        return NetworkError(f"a trainer process ended without a word (torchrun: {code}), killed from outside or out of memory")
    outcomes = [Outcome.from_exit_code(record["outcome"]) for record in records]
    order = [LESS_TELLING.index(outcome) if outcome in LESS_TELLING else len(LESS_TELLING) for outcome in outcomes]
    number = max(range(len(records)), key=order.__getitem__)
    message = str(records[number]["message"])
    if outcomes[number] is Outcome.UNHANDLED:
        return Mm1Error(f"rank {records[number]['rank']}: {message}")
    return BY_OUTCOME[outcomes[number]](message)


def oom_kills() -> int:
    """How many processes of this container the kernel has killed for want of memory (cgroup v2 or v1); 0 if it does not say."""
    for name in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        path = Path(name)
        words = path.read_text().split() if path.is_file() else []
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0


def num_gpus() -> int:
    """GPUs of this machine, without loading torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def beside_their_gpus(allowed: AbstractSet[int], nodes: Path = Path("/sys/devices/system/node")) -> tuple[str, ...]:
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


def affinity() -> AbstractSet[int]:
    """Cores that the system lets this process run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """Cores that this process may use: its affinity, or a container's quota if that is less."""
    found = len(affinity())
    limit, period = _quota()
    return min(found, max(1, limit // period)) if limit > 0 < period else found


def _quota() -> tuple[int, int]:
    """Processor time that the container may use in a period, both in µs (cgroup v2, then v1); zeros without a limit."""
    both, v1 = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu")
    if both.is_file():
        words = both.read_text().split()
    else:
        files = [v1 / "cpu.cfs_quota_us", v1 / "cpu.cfs_period_us"]
        words = [file.read_text().strip() for file in files if file.is_file()]
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(word.isdigit() for word in words) else (0, 0)
