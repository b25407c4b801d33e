"""The verification card of a training step (:mod:`mm1.lineage.card`)."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mm1.config.resolve import canonical_json
from mm1.errors import Mm1Error
from mm1.lineage.card import NO_PROOF, Card, Code, Hardware, Results, Speed, StepCall, digest_of_address
from mm1.lineage.records import TaskRecord, read_run
from mm1.manifests import Checkpoint
from mm1.recipes import registry
from mm1.store.base import digest_of
from mm1.train.config import TrainResult
from mm1_components.wrapper.arguments import placement_fields, source_fields
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")

VERSIONS = ("python", "torch", "deepspeed", "transformers")
GIT_TIMEOUT_S = 20


def write_card(
    step: str, inputs: BaseModel, context: Context, result: TrainResult, checkpoint: Checkpoint, facts: dict[str, Any]
) -> None:
    """Write card.yaml.

    Args:
        step: name of the training step.
        inputs: its inputs.
        context: its context.
        result: of the trainer.
        checkpoint: the finished checkpoint.
        facts: statistics of the run's rows.
    """
    measured = result.facts
    call = StepCall.of(context.task, step, _inputs(inputs, checkpoint.world_size), result.manifest)
    made_by = producers(context, call.needs)
    folders = [name for name in source_fields(type(inputs)) if getattr(inputs, name)]
    reasons = _reasons(result, checkpoint, call, made_by, folders)
    commit = describe_commit()
    if commit.endswith("-dirty"):
        reasons.append("the code had uncommitted changes")
    memory = facts.get("peak_memory_bytes")
    card = Card(
        recipe=checkpoint.recipe,
        stage=checkpoint.stage,
        status="partial",
        reasons=(*reasons, NO_PROOF),
        command=call.command(),
        run=call,
        made_by=tuple(made_by),
        config=digest_of(canonical_json(checkpoint.config).encode()),
        code=Code(commit=commit, digest=context.code),
        hardware=Hardware(
            processor=str(measured.get("processor", "")),
            cores=int(measured.get("cores", 0)),
            memory_gb=int(measured.get("memory_gb", 0)),
            gpu=str(measured.get("gpu", "")),
            processes=checkpoint.world_size,
            threads=int(measured.get("threads", 0)),
        ),
        versions={name: str(measured[name]) for name in VERSIONS if name in measured},
        results=Results(
            manifest=digest_of_address(result.manifest),
            steps=result.steps,
            tokens=checkpoint.tokens_seen,
            losses={name: round(loss, 6) for name, loss in result.losses.items()},
            validation_losses={name: round(loss, 6) for name, loss in result.validation_losses.items()},
        ),
        speed=Speed(
            tokens_per_s=round(result.tokens_per_s, 1),
            mfu=facts.get("mfu"),
            peak_memory_gb=None if memory is None else round(memory / 1e9, 3),
            goodput=facts.get("goodput"),
        ),
    )
    card.write(context.artifact("card.yaml"))


def _inputs(inputs: BaseModel, processes: int) -> dict[str, Any]:
    """Return the inputs that matter for the result, with the ranks of all nodes as processes of one."""
    model = type(inputs)
    omitted = {*placement_fields(model), *source_fields(model), "nodes", "processes"}
    defaults = {name: info.default for name, info in model.model_fields.items() if not info.is_required()}
    values = inputs.model_dump(mode="json", exclude=omitted)
    return {name: value for name, value in values.items() if value != defaults.get(name)} | {"processes": processes}


def producers(context: Context, needed: list[str]) -> list[StepCall]:
    """Return the steps of this run that made manifests, and those that made what they read; earliest first.

    Args:
        context: of the training step.
        needed: digests of the manifests that it reads.
    """
    try:
        records = {digest_of_address(record.manifest): record for record in read_run(context.store, context.run).tasks.values()}
    except Mm1Error as error:
        log.warning("card.yaml does not name the steps that made the data: %s", error)
        return []
    calls: list[StepCall] = []

    def add(digest: str) -> None:
        record = records.pop(digest, None)
        if record is None:
            return
        call = _call(record)
        if digest in call.needs:  # given, not made: ingest passes `data` on
            return
        for parent in call.needs:
            add(parent)
        calls.append(call)

    for digest in needed:
        add(digest)
    return calls


def _call(record: TaskRecord) -> StepCall:
    inputs = {name: value for name, value in record.inputs.items() if value not in ("", None)}
    return StepCall.of(record.task, record.step, inputs, record.manifest)


def _reasons(
    result: TrainResult, checkpoint: Checkpoint, call: StepCall, made_by: list[StepCall], folders: list[str]
) -> list[str]:
    """Return what the card lacks."""
    reasons = [f"{name} is a folder that others may not have" for name in folders]
    known = {made.manifest for made in made_by}
    reasons += [f"the run does not have the step that made {digest[:12]}" for digest in call.needs if digest not in known]
    if not result.losses:
        reasons.append("the trainer was started again after its last step, and did not measure it")
    if checkpoint.skipped:
        reasons.append(f"{len(checkpoint.skipped)} batches were skipped")
    if checkpoint.recipe in registry.names() and result.steps < (steps := registry.get(checkpoint.recipe).train.steps):
        reasons.append(f"short run: {result.steps:,} of the recipe's {steps:,} steps")
    return reasons


def describe_commit() -> str:
    """Return ``git describe`` of this code's checkout, with ``-dirty`` if files were changed; empty without a checkout."""
    path = Path(__file__).resolve()
    if not _git(path.parent, "ls-files", "--error-unmatch", path.name):
        return ""  # no checkout, or that of another project in whose folder this one is installed
    return _git(path.parent, "describe", "--always", "--dirty", "--tags")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
