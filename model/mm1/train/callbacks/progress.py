"""Live progress of a run, as JSON lines on rank 0's standard output, and the run's speed.

A line is ``{"mm1": "progress", "step": 120, "steps": 400, "loss": 1.23, ...}``; the step wrapper reads it. Speeds are means
over the steps since the previous line; the remaining time is estimated from all steps of this process.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, TextIO

from mm1.store.deadline import Retries
from mm1.train.callback import Callback
from mm1.train.callbacks.metrics import Metrics
from mm1.train.phases import PHASES

if TYPE_CHECKING:
    from mm1.train.checkpoints import Checkpoints
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult


class ProgressLines(Callback):
    """Writes progress lines and measures speed.

    Args:
        every_s: seconds between two lines.
        metrics: source of the rows on rank 0; None on other ranks, which write nothing.
        sink: stream for the lines; standard output by default.
        checkpoints: of the run, for the step and the age of the last one; None for a run without.
    """

    def __init__(
        self,
        every_s: float,
        metrics: Metrics | None,
        sink: TextIO | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.every_s = every_s
        self.metrics = metrics
        self.checkpoints = checkpoints
        self.sink = sink or sys.stdout
        self.started = self._last = self._previous = 0.0
        self.first_step = 0
        self.tokens = self.positions = 0
        """Tokens and positions of the steps of this process."""
        self.slowest_step_s = 0.0
        self._rows: list[dict[str, Any]] = []

    def on_start(self, progress: Progress) -> None:
        """Start the clock."""
        self.started = self._previous = time.perf_counter()
        self._last = float("-inf")
        self.first_step = progress.step

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Count the step, and write a line if one is due."""
        now = time.perf_counter()
        self.slowest_step_s = max(self.slowest_step_s, now - self._previous)
        self._previous = now
        self.tokens += result.tokens
        self.positions += result.positions
        if self.metrics is None:
            return
        self._rows.append(self.metrics.row)
        if progress.done or now - self._last >= self.every_s:
            self._last = now
            self.sink.write(json.dumps(self._line(progress, result)) + "\n")
            self.sink.flush()
            self._rows.clear()

    def _line(self, progress: Progress, result: StepResult) -> dict[str, Any]:
        assert self.metrics is not None, "only rank 0 writes lines"
        row, seconds = self._rows[-1], sum(row["seconds"] for row in self._rows)
        disk = shutil.disk_usage(tempfile.gettempdir())
        line = {
            "mm1": "progress",
            "step": progress.step,
            "steps": progress.total_steps,
            "loss": round(result.loss, 4),
            "losses": {name: round(value, 4) for name, value in result.source_losses.items()},
            "validation": {name: round(value, 4) for name, value in progress.validation.items()},
            "grad_norm": round(result.grad_norm, 4),
            "step_s": round(seconds / len(self._rows), 6),
            "tokens_per_s": round(sum(row["tokens"] for row in self._rows) / seconds),
            "memory_bytes": row["memory_bytes"],
            "skipped": row["skipped"],
            "spikes": row["spikes"],
            "goodput": self.metrics.goodput(),
            "checkpoint": self._checkpoint(),
            "store_failures": Retries.num_failed,
            "disk_free": round(disk.free / disk.total, 4),
            "source_tokens": progress.source_tokens,
            "eta_s": round(self._remaining(progress) * self.seconds, 1),
        }
        if "mfu" in row:
            line["mfu"] = round(sum(row["mfu"] * row["seconds"] for row in self._rows) / seconds, 4)
        if result.retrieval is not None:
            line["retrieval"] = round(result.retrieval, 4)
        phases = {name: sum(row.get(f"phase/{name}", 0.0) for row in self._rows) / seconds for name in PHASES}
        line["phases"] = {name: round(share, 4) for name, share in phases.items() if share}
        if "slowest_rank" in row:
            line["straggler"] = {"rank": row["slowest_rank"], "slower": row["slowest_rank_slower"]}
        return line

    def _checkpoint(self) -> dict[str, float]:
        """Return the step of the last durable checkpoint, 0 for none, and the age of its state since this process started."""
        saved = self.checkpoints.saved if self.checkpoints is not None else None
        step, taken = saved or (self.first_step, self.started)
        return {"step": step, "age_s": round(time.perf_counter() - taken, 1)}

    def _remaining(self, progress: Progress) -> float:
        """Ratio of the remaining work to that done by this process, in steps or tokens, whichever ends first."""
        remaining = (progress.total_steps - progress.step) / (progress.step - self.first_step)
        if progress.total_tokens:
            remaining = min(remaining, max(progress.total_tokens - progress.tokens, 0) / max(self.tokens, 1))
        return remaining

    @property
    def seconds(self) -> float:
        """Wall time from the start to the last step."""
        return max(self._previous - self.started, 1e-9)
