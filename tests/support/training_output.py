"""Lines of a trainer's output, and the context of the step that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mm1.store.local import LocalStore
from mm1_components.wrapper.declaration import Context

LINE: dict[str, Any] = {
    "mm1": "progress",
    "step": 120,
    "steps": 400,
    "loss": 1.2344,
    "losses": {"captions": 1.1, "text": 2.0},
    "validation": {"captions": 1.301},
    "grad_norm": 0.5312,
    "tokens_per_s": 9120,
    "memory_bytes": 812_345_344,
    "skipped": 0,
    "spikes": 0,
    "eta_s": 72.4,
}
"""A line of progress, without the figures that come later in a run."""


def context_in(folder: Path, **fields: Any) -> Context:
    """The context of a training step that works in a folder."""
    given: dict[str, Any] = {
        "store": LocalStore(folder / "store"),
        "run": "run",
        "task": "pretrain",
        "key": "key",
        "code": "",
        "work": folder,
        "artifacts": {name: folder / name for name in ("metrics.json", "metrics.jsonl")},
        "progress_file": folder / "progress",
    }
    return Context(**given | fields)
