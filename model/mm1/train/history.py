"""The history of a run: its reproducible metrics, one row per step, in Parquet.

It is part of the checkpoint and of its digest, so it holds no times. A resumed run continues the rows of its checkpoint.
"""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.train.progress import Progress
from mm1.train.step import StepResult


class History:
    """Rows of a run.

    Columns: step, lr, loss, loss/<source>, validation/<source>, grad_norm, tokens, positions, images, applied (0 = spike),
    router/<figure>; in stage vision with model.clip also retrieval, retrieval/<source> (held out).

    Args:
        peak_lr: peak learning rate.
        sources: names of the sources, in the mixture's order.
    """

    def __init__(self, peak_lr: float, sources: list[str]) -> None:
        self.peak_lr = peak_lr
        self.sources = sources
        self.rows: list[dict[str, Any]] = []

    def add(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Add the row of a step."""
        row: dict[str, Any] = {"step": progress.step, "lr": self.peak_lr * rate_factor, "loss": result.loss}
        row |= {f"loss/{name}": result.source_losses.get(name) for name in self.sources}
        row |= {f"validation/{name}": loss for name, loss in progress.new_validation.items()}
        row |= {"grad_norm": result.grad_norm, "tokens": result.tokens, "positions": result.positions, "images": result.images}
        row |= {"applied": int(result.applied)}
        row |= {f"router/{name}": value for name, value in result.router.items()}
        row |= retrieval(progress, result)
        self.rows.append(row)

    def to_parquet(self, number: int | None = None) -> bytes:
        """Serialise the first rows (by default all) as a Parquet file; equal rows give equal bytes."""
        rows = self.rows[:number]
        names = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
        integers = {"step", "tokens", "positions", "images", "applied"}
        columns = {
            name: pa.array([row.get(name) for row in rows], pa.int64() if name in integers else pa.float64()) for name in names
        }
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, compression="zstd")
        return sink.getvalue()

    def from_parquet(self, data: bytes, last_step: int) -> None:
        """Load the rows of a checkpoint, up to its step."""
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        self.rows = [row for row in rows if row["step"] <= last_step]
        for row in self.rows:
            row.setdefault("applied", 1)  # the column is newer than the file format

    def mean_losses(self, last: int) -> dict[str, float]:
        """Compute mean losses over the last steps: ``all``, and each source that occurred in them."""
        rows = self.rows[-last:]
        means = {}
        for name in ("loss", *(f"loss/{source}" for source in self.sources)):
            values = [row[name] for row in rows if row.get(name) is not None]
            if values:
                means[name.removeprefix("loss/") if name != "loss" else "all"] = sum(values) / len(values)
        return means


def retrieval(progress: Progress, result: StepResult) -> dict[str, float]:
    """Return the columns of retrieval of a step; none for objectives that compare no pairs."""
    row = {} if result.retrieval is None else {"retrieval": result.retrieval}
    return row | {f"retrieval/{name}": share for name, share in progress.new_retrieval.items()}
