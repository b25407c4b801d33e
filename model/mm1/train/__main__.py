"""The trainer process, one per device: ``torchrun --nproc_per_node N -m mm1.train --config run.json``.

The configuration is already resolved (:class:`mm1.train.config.TrainJob`). Rank 0 writes ``result.json`` to the job's folder. A
rank that fails writes ``error-rank<r>.json`` with its outcome class, because torchrun returns 1 for any failed rank. Logs and
progress lines go to standard output, separate from the standard error of torchrun and libraries.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from pathlib import Path

from pydantic import ValidationError

from mm1.errors import Ending, Outcome
from mm1.machine import STARTER_VARIABLE, die_with_launcher, die_with_parent
from mm1.monitoring import logs
from mm1.train.config import TrainJob, TrainResult

log = logging.getLogger("mm1.train")


def main() -> None:
    """Train, and exit with the outcome's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mm1.train", description="One process of a training run (torchrun starts it)."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="resolved job, JSON")
    path = parser.parse_args().config
    die_with_launcher(int(starter)) if (starter := os.environ.get(STARTER_VARIABLE)) else die_with_parent()
    rank = int(os.environ.get("RANK", "0"))
    try:
        job = TrainJob.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        sys.exit(f"{path} is not a training job: {error}")
    text = f"%(asctime)s %(levelname)s [rank {rank}] %(message)s"
    logs.configure(sys.stdout, job.logs, rank=rank, text_format=text, level=logging.WARNING)
    logging.getLogger("mm1").setLevel(logging.INFO if rank == 0 else logging.WARNING)
    sys.exit(int(run(job, rank)))


def run(job: TrainJob, rank: int) -> Outcome:
    """Run a job as one rank; write an error to the error file and return its outcome."""
    folder = Path(job.folder)
    try:
        _train(job, folder)
        return Outcome.DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence: recorded for the step wrapper
        ending = Ending.of(error, f"rank {rank}")
        if ending.outcome is Outcome.UNHANDLED:
            log.error("%s", traceback.format_exc())
        (folder / f"error-rank{rank}.json").write_text(ending.to_json())
        # Exit at once: at a normal exit, the process group would wait for ranks that are gone.
        sys.stdout.flush()
        os._exit(int(ending.outcome))


def _train(job: TrainJob, folder: Path) -> None:
    started = time.perf_counter()
    import torch

    if job.threads:
        torch.set_num_threads(job.threads)
    from mm1.checkpoint.resume import address
    from mm1.manifests import Checkpoint
    from mm1.store.open import open_store
    from mm1.train.build import build_run
    from mm1.train.engine import rank_of_environment, start_processes, stop_processes
    from mm1.train.environment import environment
    from mm1.train.flight import FlightRecorder
    from mm1.train.probe import measured
    from mm1.train.run_loader import build_loader

    timeout_s = job.config.train.collective_timeout_s
    loader = None if job.probe else build_loader(job, *rank_of_environment())  # forks: before the process group
    rank, world_size = start_processes(timeout_s)
    recorder = FlightRecorder(folder, rank, world_size, timeout_s)
    try:
        built = measured(job, job.probe) if job.probe else build_run(job, rank, world_size, loader=loader)
        start_s = round(time.perf_counter() - started, 3)
        if isinstance(built, Checkpoint):
            log.info("the run is already finished")
            result = _finished(address(open_store(job.store), built), built)
        elif isinstance(built, TrainResult):
            result = built
        else:
            recorder.progress = built.progress
            result = built.go()
    except RuntimeError as error:
        if (explained := recorder.explain(error)) is None:
            raise
        raise explained from error
    facts = {"start_s": start_s, **environment()}
    if rank == 0:
        result = result.model_copy(update={"facts": {**result.facts, **facts}})
        (folder / "result.json").write_text(result.model_dump_json())
    stop_processes()


def _finished(manifest: str, checkpoint: object) -> TrainResult:
    step = int(getattr(checkpoint, "step", 0))
    zeros = {"seconds": 0.0, "tokens": 0, "tokens_per_s": 0.0, "padding_share": 0.0}
    return TrainResult(manifest=manifest, steps=step, resumed_from=step, losses={}, facts={}, **zeros)


if __name__ == "__main__":
    main()
