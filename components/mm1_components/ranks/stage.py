"""What pre-training and fine-tuning have in common as steps: from inputs to a published checkpoint and what is to be looked at.

``metrics.json`` sums the run up, ``metrics.jsonl`` has a row for each step (also of a run that failed). A profile and files of
Weights & Biases become blobs, which metrics.json and the run record name.
"""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mm1.checkpoint.resume import forget
from mm1.config.resolve import canonical_json, resolve
from mm1.errors import ConfigurationError, Mm1Error
from mm1.manifests import Checkpoint, DataMix, load, split_uri
from mm1.recipes import registry
from mm1.store.base import blob_key, digest_of
from mm1.store.open import open_store
from mm1.train import run_files as kept
from mm1.train.config import RunConfig, TrainJob, TrainResult
from mm1.train.model_origin import LANGUAGE_ONLY, check_against_mixture, check_sequence, model_json, settle_parts
from mm1_components.ranks.launcher import Layout
from mm1_components.ranks.train import train
from mm1_components.wrapper.cache import folder_fingerprint
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")


class StageOutputs(BaseModel):
    """What a training step hands on."""

    manifest: str = Field(description="address of the finished Checkpoint manifest")


def resolve_run(recipe: str, overrides: str, seed: int) -> RunConfig:
    """A recipe's configuration with the user's overrides.

    Args:
        recipe: its name.
        overrides: ``path=value`` items separated by spaces; quotes as in a shell.
        seed: of fresh weights.

    Raises:
        ConfigurationError: unknown recipe, or an override that does not fit.
    """
    return resolve(registry.get(recipe), [*split_overrides(overrides), f"train.seed={seed}"])


SPREADING = (
    "micro_batch",
    "zero_stage",
    "expert_parallel",
    "offload",
    "gradient_checkpointing",
    "loader_workers",
    "checkpoint_every",
    "keep_checkpoints",
    "profile",
)
"""Fields of the section ``train`` that change how a run is laid out or looked at, not what it does."""


def split_overrides(text: str) -> list[str]:
    """Overrides in one text -> list.

    Raises:
        ConfigurationError: an unclosed quote.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"overrides: {text!r}: {error}") from None


def run_stage(
    config: RunConfig,
    context: Context,
    *,
    data: str,
    init: str,
    vision: str,
    decoder: str,
    overrides: str,
    layout: Layout,
) -> StageOutputs:
    """Train a stage, or with a decoder in the text stage publish it as a checkpoint; leave metrics.json.

    Raises:
        Mm1Error: see :func:`mm1_components.ranks.train.train`.
    """
    mix = context.load(data, DataMix)
    checkpoint = context.load(init, Checkpoint) if init else None
    check_sequence(config.sequence, mix)
    config = settle_parts(config, checkpoint, vision, decoder, split_overrides(overrides))
    if checkpoint and checkpoint.stage not in LANGUAGE_ONLY and not vision:
        has_images = any(source.num_images and source.weight for source in mix.sources)
        check_against_mixture(model_json(open_store(split_uri(init)[0]), checkpoint), mix.image_tokens, has_images)
    job = TrainJob(
        config=config,
        data=data,
        init=init,
        vision=_absolute(vision),
        decoder=_absolute(decoder),
        store=context.store.uri,
        key=work_key(config, data, init, vision, decoder),
        code=context.code,
        folder=str(context.work),
    )
    try:
        result = train(job, layout, context)
    finally:
        shown = _take_over(context, job.key)
    _write_metrics(context.artifact("metrics.json"), result, load(result.manifest, Checkpoint), shown)
    forget(context.store, job.key)
    kept.forget(context.store, job.key)
    return StageOutputs(manifest=result.manifest)


def work_key(config: RunConfig, data: str, init: str, vision: str, decoder: str) -> str:
    """What names unfinished work, so that whoever starts it again goes on with it.

    Neither the number of processes nor how the work is spread over them is part of it, nor the code: a long run may go on with
    fewer nodes, another micro-batch, or a mended program.
    """
    values = config.model_dump(mode="json", exclude={"log": True, "train": set(SPREADING)})
    addresses = [split_uri(uri)[1] if uri else "" for uri in (data, init)]
    folders = [folder_fingerprint(Path(folder).expanduser()) if folder else "" for folder in (vision, decoder)]
    return digest_of(canonical_json({"config": values, "from": [*addresses, *folders]}).encode())


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute()) if folder else ""


def _take_over(context: Context, key: str) -> dict[str, Any]:
    """What the trainer left to look at: the rows as an artifact, other files as blobs.

    Returns:
        Figures of the rows, and addresses of the files by name.
    """
    path = context.artifact("metrics.jsonl")
    try:
        files = kept.take(context.store, key, path)
    except Mm1Error as error:  # must not hide how the training ended
        log.warning("metrics.jsonl stays in the store, at %s: %s", kept.address(key), error)
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


def _write_metrics(path: Path, result: TrainResult, checkpoint: Checkpoint, shown: dict[str, Any]) -> None:
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
