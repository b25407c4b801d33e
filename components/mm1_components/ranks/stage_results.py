"""What a training stage leaves for people: metrics.json, metrics.jsonl, profiles, files of Weights & Biases.

``metrics.json`` sums the run up, ``metrics.jsonl`` has a row for each step (also of a run that failed). A profile and files of
Weights & Biases become blobs, which metrics.json and the run record name.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mm1.errors import Mm1Error
from mm1.manifests import Checkpoint
from mm1.store.base import blob_key
from mm1.train import run_files
from mm1.train.config import TrainResult
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")


def take_over(context: Context, key: str) -> dict[str, Any]:
    """What the trainer left to look at: the rows as an artifact, other files as blobs.

    Returns:
        Figures of the rows, and addresses of the files by name.
    """
    path = context.artifact("metrics.jsonl")
    try:
        files = run_files.take(context.store, key, path)
    except Mm1Error as error:  # must not hide how the training ended
        log.warning("metrics.jsonl stays in the store, at %s: %s", run_files.address(key), error)
        return {}
    shown: dict[str, Any] = _measured(path) if path.is_file() else {}
    if files:
        shown["files"] = {name: f"{context.store.uri}/{blob_key(ref)}" for name, ref in files.items()}
        for name, where in shown["files"].items():
            log.info("%s: %s", name, where)
    context.note(**shown)
    return shown


def _measured(path: Path) -> dict[str, Any]:
    """Mean MFU over the time of all steps, where it is known, and the largest memory of rank 0."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = [row for row in rows if "mfu" in row]
    seconds = sum(row["seconds"] for row in known)
    mean = {"mfu": round(sum(row["mfu"] * row["seconds"] for row in known) / seconds, 4)} if known else {}
    return {**mean, "peak_memory_bytes": max(row["memory_bytes"] for row in rows)}


def write_metrics(path: Path, result: TrainResult, checkpoint: Checkpoint, shown: dict[str, Any]) -> None:
    """Write metrics.json."""
    metrics: dict[str, Any] = {
        "stage": checkpoint.stage,
        "recipe": checkpoint.recipe,
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "seconds": round(result.seconds, 3),
        "tokens_per_s": round(result.tokens_per_s, 1),
        "padding_share": round(result.padding_share, 4),
        "sequences_seen": checkpoint.sequences_seen,
        "tokens_seen": checkpoint.tokens_seen,
        "images_seen": checkpoint.images_seen,
        "num_parameters": checkpoint.num_parameters,
        "final_losses": {name: round(loss, 5) for name, loss in result.losses.items()},
        "facts": result.facts,
        **shown,
    }
    path.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
