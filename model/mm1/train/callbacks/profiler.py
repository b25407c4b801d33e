"""The callback that profiles some steps of rank 0: a Chrome trace, and the most expensive operators in the log."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from mm1.errors import Mm1Error
from mm1.store.base import Store
from mm1.train import run_files
from mm1.train.callback import Callback

if TYPE_CHECKING:
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult

log = logging.getLogger(__name__)

FILE_NAME = "trace.json.gz"
NUM_OPERATORS = 15


class Profiler(Callback):
    """Profiles some steps, as far as this process runs them.

    Args:
        steps: first and last step, counted from 1, both included.
        folder: of the job; the trace is written to it.
        store: store for the trace.
        key: name of the work.
    """

    def __init__(self, steps: tuple[int, int], folder: Path, store: Store, key: str) -> None:
        self.first, self.last = steps
        self.path = folder / FILE_NAME
        self.store, self.key = store, key
        self._profile: profile | None = None
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="mm1-profile")
        self._started_after = 0

    def on_start(self, progress: Progress) -> None:
        """Start profiling if the next step is one of them."""
        self._begin(progress)
        if progress.step >= self.last:
            log.warning("no profile: steps %d-%d are already done", self.first, self.last)

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Start profiling before the first step, stop after the last."""
        if self._profile is not None and progress.step >= self.last:
            self._write(progress)
        elif self._profile is None:
            self._begin(progress)

    def on_end(self, progress: Progress) -> None:
        """Write the trace of the profiled steps, and wait until it is stored."""
        self._write(progress)
        self._storing.shutdown()

    def _write(self, progress: Progress) -> None:
        done, self._profile = self._profile, None
        if done is None:
            return
        done.stop()
        done.export_chrome_trace(str(self.path))
        self._storing.submit(self._keep)  # on a thread: the other ranks are in the next step, and wait for this one
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = done.key_averages().table(sort_by=order, row_limit=NUM_OPERATORS, max_name_column_width=60)
        log.info("profile of steps %d-%d: %s\n%s", self._started_after + 1, progress.step, self.path, table)

    def _keep(self) -> None:
        try:
            log.info("profile: %s", run_files.put_file(self.store, self.key, FILE_NAME, self.path))
        except (Mm1Error, OSError) as error:
            log.warning("cannot store %s: %s", FILE_NAME, error)

    def _begin(self, progress: Progress) -> None:
        if not self.first <= progress.step + 1 <= self.last:
            return
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profile, self._started_after = profile(activities=activities), progress.step
        self._profile.start()
