"""Goodput: the share of a run's wall time in which steps ran that count, over all its starts. Torch-free.

first start                                                                                    last step
| start-up | steps | checkpoint | steps | validation | steps that were lost | away | start-up | steps |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class WallTime:
    """The wall time of a run since its first start, in seconds."""

    steps_s: float = 0.0
    """Steps that count, without the following."""
    startup_s: float = 0.0
    """From the start of the trainer to its first step, of all starts."""
    checkpoint_s: float = 0.0
    """Steps that waited for a checkpoint."""
    validation_s: float = 0.0
    lost_s: float = 0.0
    """Steps after the checkpoint from which the run went on."""
    starts: int = 0

    def add_row(self, row: dict[str, Any]) -> None:
        """Count a step, from its row in metrics.jsonl."""
        checkpoint, validation = row.get("phase/checkpoint", 0.0), row.get("phase/validation", 0.0)
        self.checkpoint_s += checkpoint
        self.validation_s += validation
        self.steps_s += max(0.0, row["seconds"] - checkpoint - validation)

    def add_start(self, start: dict[str, float]) -> None:
        """Count a start of the trainer (:func:`mm1.train.run_files.put_start`)."""
        self.startup_s += max(0.0, start["ready"] - start["started"])
        self.lost_s += start["lost_s"]
        self.starts += 1

    def until(self, total_s: float) -> dict[str, float]:
        """Return all parts of a wall time, and the goodput.

        What no row and no start explains is ``away_s``: no trainer, or one that was killed before it stored its rows.
        """
        known = self.steps_s + self.startup_s + self.checkpoint_s + self.validation_s + self.lost_s
        total_s = max(total_s, known)
        parts = {name: round(value, 3) for name, value in (asdict(self) | {"away_s": total_s - known}).items()}
        return {"goodput": round(self.steps_s / total_s, 4) if total_s else 0.0, "wall_s": round(total_s, 3), **parts}


def wall_time(rows: Iterable[dict[str, Any]], starts: Sequence[dict[str, float]]) -> WallTime:
    """Sum up the steps that count and the starts of a run."""
    result = WallTime()
    for start in starts:
        result.add_start(start)
    for row in rows:
        result.add_row(row)
    return result
