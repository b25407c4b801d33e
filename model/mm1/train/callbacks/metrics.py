"""Metrics of each step, including measurements: one JSON line per step in ``metrics.jsonl`` of the job's folder.

::

    {"step": 120, "time": 1764018000.1, "seconds": 0.21, "loss": 1.23, "loss/captions": 1.1, "lr": 0.005, "grad_norm": 0.8,
     "tokens": 2031, "images": 96, "padding": 0.008, "tokens_per_s": 9671.0, "mfu": 0.31, "memory_bytes": 812345344,
     "skipped": 0, "applied": true, "spikes": 0, "router/load_max": 1.2, ...}

Rank 0 writes them. The file is line-buffered, so no line is lost with the process. At each checkpoint the new lines also go to
the store (:mod:`mm1.train.run_files`), and a resumed run continues those up to its checkpoint. The history has the reproducible
figures too; only this file has times.
"""

from __future__ import annotations

import json
import logging
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

from mm1 import machine
from mm1.errors import Mm1Error
from mm1.modeling.configuration import MM1Config
from mm1.store.base import Store
from mm1.train import run_files
from mm1.train.callback import Callback
from mm1.train.callbacks.timing import Timing
from mm1.train.empty_model import EVERYTHING, Trained
from mm1.train.flops import UnitFlops, Work, count_flops, peak_flops, utilisation
from mm1.train.goodput import WallTime, wall_time
from mm1.train.history import retrieval

if TYPE_CHECKING:
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult

log = logging.getLogger(__name__)

FILE_NAME = "metrics.jsonl"


@dataclass(frozen=True)
class Devices:
    """Devices that a step runs on, for its MFU."""

    number: int
    """Devices of all processes."""
    peak: float
    """Peak FLOP/s of each in bfloat16, whatever the run's dtype."""
    flops: UnitFlops
    """FLOPs of the model, with what the run trains."""

    @classmethod
    def current(cls, config: MM1Config, number: int, trained: Trained = EVERYTHING) -> Devices | None:
        """Describe devices like that of this process; None if its peak is unknown, as for CPUs, or the model is not countable.

        Args:
            config: of the model to train.
            number: devices of all processes.
            trained: what the run trains of it.
        """
        peak = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        try:
            return None if peak is None else cls(number, peak, count_flops(config, trained))
        except Exception as error:  # noqa: BLE001 - any decoder from a folder can be trained, counted or not
            log.warning("no MFU: cannot count the model's FLOPs: %s", error)
            return None

    def mfu(self, result: StepResult, seconds: float) -> float:
        """Compute the share of the peak that a step's useful work took.

        Padding, recomputation and gradients of frozen weights are not useful work.
        """
        work = Work(result.tokens, result.pairs, result.predicted_tokens, result.images)
        return utilisation(self.flops.step(work).total, seconds, self.number, self.peak)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes: torch's on its GPU; without a GPU its resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Metrics(Callback):
    """Creates the row of each step on rank 0, and writes it.

    Args:
        folder: of the job.
        store: store for the rows at checkpoints.
        key: name of the work.
        every: steps between two checkpoints.
        peak_lr: peak learning rate.
        devices: devices to compute MFU for; None if unknown.
        timing: has the phases of a step.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        key: str,
        *,
        every: int,
        peak_lr: float,
        devices: Devices | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.path = folder / FILE_NAME
        self.store, self.key, self.every = store, key, every
        self.peak_lr, self.devices, self.timing = peak_lr, devices, timing
        self.wall = WallTime()
        """Wall time of the run so far, previous processes included."""
        self._started = 0.0
        self.row: dict[str, Any] = {}
        """Row of the last step."""
        self._file: TextIO | None = None
        self._previous = 0.0
        self._new: list[str] = []

    def on_start(self, progress: Progress) -> None:
        """Load the rows up to the checkpoint that the run resumes from."""
        lines, removed = run_files.cut_rows(self.store, self.key, progress.step)
        self._count_start(lines, removed)
        self.path.unlink(missing_ok=True)  # a new inode: readers of the previous file do not see it shrink
        self._file = self.path.open("w", buffering=1)
        self._file.writelines(lines)
        self._previous = time.perf_counter()

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Write the row of a step."""
        assert self._file is not None, "on_start comes first"
        now = time.perf_counter()
        self.row = self._row(progress, result, rate_factor, now - self._previous)
        self.wall.add_row(self.row)
        self._previous = now
        line = json.dumps(self.row) + "\n"
        self._file.write(line)
        self._new.append(line)
        if progress.step % self.every == 0:
            self._keep(progress.step)

    def on_end(self, progress: Progress) -> None:
        """Store the last rows."""
        if self._file is not None:
            self._file.close()
            self._keep(progress.step)

    def goodput(self) -> float:
        """Compute the share of the wall time since the first start of the run in which steps ran that count."""
        return self.wall.until(time.time() - self._started)["goodput"]

    def _count_start(self, lines: list[str], removed: list[str]) -> None:
        """Store this start of the trainer, and count the steps and starts before it."""
        lost_s = sum(json.loads(line)["seconds"] for line in removed)
        start = {"started": machine.process_started(), "ready": time.time(), "lost_s": lost_s}
        try:
            starts = [*run_files.starts(self.store, self.key), start]
            run_files.put_start(self.store, self.key, start)
        except (Mm1Error, OSError) as error:
            log.warning("the goodput will lack this start of the trainer: %s", error)
            starts = [start]
        self.wall, self._started = wall_time(map(json.loads, lines), starts), starts[0]["started"]

    def _row(self, progress: Progress, result: StepResult, rate_factor: float, seconds: float) -> dict[str, Any]:
        row: dict[str, Any] = {"step": progress.step, "time": round(time.time(), 3), "seconds": round(seconds, 6)}
        row |= {"loss": result.loss, **{f"loss/{name}": loss for name, loss in result.source_losses.items()}}
        row |= {f"validation/{name}": loss for name, loss in progress.new_validation.items()}
        row |= {"lr": self.peak_lr * rate_factor, "grad_norm": result.grad_norm}
        row |= {"tokens": result.tokens, "images": result.images, "padding": 1 - result.tokens / max(result.positions, 1)}
        row |= {f"tokens/{name}": tokens for name, tokens in result.source_tokens.items()}
        row["tokens_per_s"] = round(result.tokens / seconds, 1)
        if self.devices is not None:
            row["mfu"] = self.devices.mfu(result, seconds)
        if self.timing is not None:
            row |= {f"phase/{name}": round(value, 6) for name, value in self.timing.seconds.items()}
            if (straggler := self.timing.straggler) is not None:
                row |= {"slowest_rank": straggler.rank, "slowest_rank_slower": round(straggler.slower, 4)}
        row |= {"memory_bytes": peak_memory(), "skipped": len(progress.skipped)}
        row |= {"applied": result.applied, "spikes": progress.spikes}
        row |= {f"router/{name}": value for name, value in result.router.items()}
        return row | retrieval(progress, result)

    def _keep(self, step: int) -> None:
        """Store the new rows; a store that is unreachable for a while must not end the run."""
        if not self._new:
            return
        try:
            run_files.put_rows(self.store, self.key, step, "".join(self._new))
        except (Mm1Error, OSError) as error:
            log.warning("cannot store the rows up to step %d, retrying at the next checkpoint: %s", step, error)
        else:
            self._new.clear()
