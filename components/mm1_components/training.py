"""Starting the trainer from a step: resolve the run, start torchrun, follow it, turn its end into an outcome.

Shared by `pretrain` and `sft`. On a cluster the ranks are pods and a supervisor follows them; here torchrun runs in place, on
as many processes of this machine as were asked for::

    inputs -> RunConfig -> run.json -> torchrun -m mm1.train -> progress lines -> result.json | error files -> outcome
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mm1.errors import BY_OUTCOME, ConfigurationError, Mm1Error, NetworkError, Outcome, Preempted
from mm1.train.config import TrainJob, TrainResult
from mm1_components.step import Context

log = logging.getLogger("mm1")

MODULE = "mm1.train.__main__"
LOG_EVERY_S = 10.0
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


def train(job: TrainJob, processes: int, context: Context, grace_s: int) -> TrainResult:
    """Run the trainer on ``processes`` processes of this machine until it ends.

    Args:
        job: what to do; its ``folder`` and ``threads`` are set here.
        processes: processes (ranks).
        context: of the step; gets progress and facts.
        grace_s: seconds between a request to stop and the end by force.

    Raises:
        Mm1Error: of the class of the rank that failed; Preempted after a request to stop.
    """
    if processes < 1:
        raise ConfigurationError(f"processes={processes}: at least one is needed")
    folder = context.work / "train"
    folder.mkdir(parents=True, exist_ok=True)
    threads = job.threads or max(1, _cores() // processes)
    job = job.model_copy(update={"folder": str(folder), "threads": threads})
    config = folder / "run.json"
    config.write_text(job.model_dump_json())
    code = _follow(_start(config, processes, threads, folder), context, grace_s)
    result_file = folder / "result.json"
    if (
        code in (Outcome.DONE, Outcome.PREEMPTED) and result_file.is_file()
    ):  # it may have come to its end just when asked to stop
        result = TrainResult.model_validate_json(result_file.read_bytes())
        context.note(
            tokens_per_s=result.tokens_per_s, padding_share=result.padding_share, train_s=result.seconds, **result.facts
        )
        return result
    raise _failure(folder, code)


def _start(config: Path, processes: int, threads: int, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
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


def _follow(process: subprocess.Popen[str], context: Context, grace_s: int) -> int:
    """Read the trainer's lines until it ends; a request to stop is passed on and waited for."""
    lines = _Lines(context)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.take(line)
        return process.wait()
    except Preempted:
        log.info("asked to stop: the trainer finishes its step and saves a checkpoint")
        _signal_ranks(process)
        timer = threading.Timer(grace_s, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                lines.take(line)
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


class _Lines:
    """What the trainer writes: progress for the engine, now and then a line for people, everything else as it is."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.last = float("-inf")

    def take(self, line: str) -> None:
        progress = _progress(line)
        if progress is None:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        self.context.progress(progress["step"], progress["steps"])
        if time.monotonic() - self.last >= LOG_EVERY_S or progress["step"] == progress["steps"]:
            self.last = time.monotonic()
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in progress["losses"].items())
            log.info(
                "step %d of %d: loss %.3f (%s), %d tokens/s, %.0f s left",
                *(progress[name] for name in ("step", "steps", "loss")),
                losses,
                progress["tokens_per_s"],
                progress["eta_s"],
            )


def _progress(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"mm1": "progress"'):
        return None
    try:
        found: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found


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


def _cores() -> int:
    """Cores that this process may use: its affinity, or a container's quota if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, _, period = quota.read_text().partition(" ")
        if limit.isdigit() and period.strip().isdigit():
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores
