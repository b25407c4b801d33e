"""Run several training jobs one after the other as one rank: ``torchrun ... -m tests.support.rank_program JOB...``.

A job whose file's name ends in ``.cut.json`` is stopped after its first step, as by SIGTERM. A run that stops with its state
saved leaves how it ended, for each rank.
"""

import os
import signal
import sys
from pathlib import Path

from mm1.errors import BudgetUsedUp, Ending, Preempted
from mm1.train.build import build_run
from mm1.train.config import TrainJob
from mm1.train.engine import start_processes, stop_processes


def main() -> None:
    import torch

    torch.set_num_threads(1)
    rank, world_size = start_processes()
    for path in map(Path, sys.argv[1:]):
        run = build_run(TrainJob.model_validate_json(path.read_bytes()), rank, world_size)
        if path.name.endswith(".cut.json"):
            run.loop.callbacks[-1].signal = signal.SIGTERM
        try:
            result = run.go()
        except (Preempted, BudgetUsedUp) as error:
            path.with_suffix(f".ended{rank}").write_text(Ending.of(error, f"rank {rank}").to_json())
            continue
        if rank == 0:
            path.with_suffix(".result").write_text(result.model_dump_json())
    stop_processes()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
