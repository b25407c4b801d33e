"""Evaluation reports of a checkpoint, and of a model that is served."""

from __future__ import annotations

from collections.abc import Collection

from mm1.errors import ConfigurationError
from mm1.lineage.records import readable_runs
from mm1.manifests import (
    Checkpoint,
    Deployment,
    Digest,
    EvalReport,
    ExportedModel,
    GateDecision,
    Manifest,
    load_digest,
    split_uri,
)
from mm1.store.base import Store
from mm1.store.open import find_store

LEADING = "EvalReport, GateDecision, Deployment, ExportedModel or Checkpoint"


def serving_reports(address: str) -> tuple[Digest, list[EvalReport]]:
    """Return the checkpoint of a serving model and its reports, the newest last.

    Args:
        address: of an EvalReport; or of a GateDecision, Deployment, ExportedModel or Checkpoint, whose store is then searched
            for reports of the checkpoint.

    Raises:
        ConfigurationError: another kind of manifest, a model that was not deployed, or one without any report.
    """
    uri, digest = split_uri(address)
    store = find_store(uri)
    manifest = load_digest(store, digest)
    if isinstance(manifest, EvalReport):
        return manifest.checkpoint, [manifest]
    checkpoint = checkpoint_of(store, digest, manifest)
    reports = reports_of(store, checkpoint)
    if not reports:
        raise ConfigurationError(
            f"serving: {uri} has no EvalReport of checkpoint {checkpoint[:12]}; evaluate it first: "
            f"mm1 run workflows/evaluate_model.py -p checkpoint={uri}/manifests/{checkpoint}.json"
        )
    return checkpoint, reports


def checkpoint_of(store: Store, digest: Digest, manifest: Manifest) -> Digest:
    """Return the checkpoint of a model that is served.

    Args:
        store: store of the model.
        digest: of the manifest.
        manifest: a GateDecision, Deployment, ExportedModel or Checkpoint.

    Raises:
        ConfigurationError: another kind of manifest, or a model that was not deployed.
        DataError: a manifest of its lineage does not exist.
    """
    match manifest:
        case Checkpoint():
            return digest
        case GateDecision(decision="pass") | ExportedModel():
            return manifest.checkpoint
        case Deployment(exported=str(exported)):
            return checkpoint_of(store, exported, load_digest(store, exported))
        case GateDecision() | Deployment():
            raise ConfigurationError(
                f"serving: the model of {type(manifest).__name__} {digest[:12]} was refused; give one that was deployed"
            )
        case _:
            raise ConfigurationError(f"serving: expected {LEADING}, got {type(manifest).__name__} {digest[:12]}")


def reports_of(store: Store, checkpoint: Digest) -> list[EvalReport]:
    """Find the evaluations of a checkpoint in a store.

    Returns:
        The reports, the newest last: those of no run (``mm1 eval --store``) first, then by their runs.
    """
    reports = find_reports(store, {checkpoint})
    records = (record for run in reversed(readable_runs(store)) for record in run.tasks.values() if record.manifest)
    order = {split_uri(record.manifest)[1]: number for number, record in enumerate(records)} if reports else {}
    return [reports[digest] for digest in sorted(reports, key=lambda digest: order.get(digest, -1))]


def find_reports(store: Store, checkpoints: Collection[Digest]) -> dict[Digest, EvalReport]:
    """Find the evaluations of some checkpoints in a store, by digest."""
    reports = {}
    for key in sorted(store.list("manifests/")) if checkpoints else ():
        data = store.read(key)
        if b'"EvalReport"' in data and any(checkpoint.encode() in data for checkpoint in checkpoints):
            digest = key.removeprefix("manifests/").removesuffix(".json")
            manifest = load_digest(store, digest)
            if isinstance(manifest, EvalReport) and manifest.checkpoint in checkpoints:
                reports[digest] = manifest
    return reports
