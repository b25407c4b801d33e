"""Results of a training stage for people: metrics.json, metrics.jsonl, profiles, files of Weights & Biases.

``metrics.json`` summarizes the run, ``metrics.jsonl`` has a row for each step (also if the run failed). A profile and files of
Weights & Biases become blobs, which are listed in metrics.json and in the run record.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mm1.errors import Mm1Error
from mm1.manifests import Checkpoint, DataMix
from mm1.store.base import blob_key
from mm1.train import run_files
from mm1.train.config import TrainResult
from mm1.train.goodput import wall_time
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.device_hours import DIGITS

log = logging.getLogger("mm1")


def collect_files(context: Context, key: str) -> dict[str, Any]:
    """Collect the trainer's files from the store: the rows as an artifact, other files as blobs.

    Returns:
        Statistics of the rows, device hours of the run, and addresses of the files by name.
    """
    path = context.artifact("metrics.jsonl")
    try:
        starts = run_files.starts(context.store, key)
        spent = run_files.device_hours(context.store, key, context.run)
        files = run_files.take(context.store, key, path)
    except Mm1Error as error:  # must not hide the outcome of the training
        log.warning("metrics.jsonl stays in the store, at %s: %s", run_files.address(key), error)
        return {}
    facts: dict[str, Any] = _statistics(path, starts) if path.is_file() else {}
    if spent:
        facts["device_hours"] = round(spent, DIGITS)
    if files:
        facts["files"] = {name: f"{context.store.uri}/{blob_key(ref)}" for name, ref in files.items()}
        for name, address in facts["files"].items():
            log.info("%s: %s", name, address)
    context.note(**facts)
    return facts


def _statistics(path: Path, starts: list[dict[str, float]]) -> dict[str, Any]:
    """Return mean MFU (if known, weighted by time), peak memory of rank 0, goodput, seconds by phase, and the straggler."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = [row for row in rows if "mfu" in row]
    seconds = sum(row["seconds"] for row in known)
    mean = {"mfu": round(sum(row["mfu"] * row["seconds"] for row in known) / seconds, 4)} if known else {}
    facts = {**mean, "peak_memory_bytes": max(row["memory_bytes"] for row in rows)}
    if starts:
        time = wall_time(rows, starts).until(rows[-1]["time"] - starts[0]["started"])
        facts |= {"goodput": time.pop("goodput"), "wall_time": time}
    phases = {name for row in rows for name in row if name.startswith("phase/")}
    if phases:
        sums = {name.removeprefix("phase/"): round(sum(row.get(name, 0.0) for row in rows), 3) for name in sorted(phases)}
        facts["phases_s"] = dict(sorted(sums.items(), key=lambda item: -item[1]))
    if "slowest_rank" in rows[-1]:
        facts |= {name: rows[-1][name] for name in ("slowest_rank", "slowest_rank_slower")}
    return facts


def write_metrics(path: Path, result: TrainResult, checkpoint: Checkpoint, mix: DataMix, facts: dict[str, Any]) -> None:
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
        "final_losses": _rounded(result.losses),
        **({"validation_losses": _rounded(result.validation_losses)} if result.validation_losses else {}),
        **({"validation_retrieval": _rounded(result.validation_retrieval)} if result.validation_retrieval else {}),
        **({"sources": _shares(result, mix)} if result.source_tokens else {}),
        "facts": result.facts,
        **facts,
    }
    path.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")


def _shares(result: TrainResult, mix: DataMix) -> dict[str, dict[str, float]]:
    """Return the tokens of each source, their share, and the source's weight in the mixture (in its unit)."""
    total, weights = sum(result.source_tokens.values()), sum(source.weight for source in mix.sources)
    return {
        source.name: {
            "tokens": (tokens := result.source_tokens.get(source.name, 0)),
            "share": round(tokens / max(total, 1), 4),
            "weight": round(source.weight / weights, 4),
        }
        for source in mix.sources
    }


def _rounded(losses: dict[str, float]) -> dict[str, float]:
    return {name: round(loss, 5) for name, loss in losses.items()}
