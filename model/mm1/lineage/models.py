"""Finding a model by run, task or manifest, and fetching its files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.lineage.graph import describe, resolve
from mm1.lineage.records import read_run, run_names
from mm1.lineage.signing import SIGNATURE_NAME
from mm1.manifests import (
    MANIFEST_NAME,
    Checkpoint,
    Deployment,
    ExportedModel,
    Files,
    Manifest,
    digest_of_manifest,
    load_digest,
    split_uri,
)
from mm1.store.base import BlobRef, Store
from mm1.store.open import find_store


class Model(NamedTuple):
    """A model in a store."""

    store: Store
    files: Files
    """Hugging Face folder: configuration, safetensors, processor, tokenizer and code."""
    description: str
    checkpoint: str = ""
    """Digest of the Checkpoint that it is, or was exported from."""
    signature: BlobRef | None = None
    exported: bool = False
    """Whether it has passed the contract test of an export."""


def find_model(store: Store, name: str, task: str = "") -> Model:
    """Find a model by name.

    Args:
        store: the store to search.
        name: a run, the address of a manifest, or a digest or a prefix of one. For a run, the deployed model is used, otherwise
            the latest checkpoint.
        task: a task of the run, such as ``pretrain``.

    Raises:
        ConfigurationError: no match, or a match without a model.
    """
    address = MANIFEST_NAME.match(name)
    if address:
        store = find_store(address["store"])
        return model_of(store, load_digest(store, address["digest"]), name)
    if name not in run_names(store):
        (digest,) = resolve(store, name)  # a digest resolves to exactly one manifest; an unknown name raises
        return model_of(store, load_digest(store, digest), name)
    return _model_of_run(store, name, task)


def fetch_model(model: Model, folder: Path) -> Path:
    """Provide a model's files, and its signature if it has one, as a folder of links; every file is verified.

    Raises:
        CheckpointError: a file does not match its digest.
    """
    signature = {SIGNATURE_NAME: model.signature} if model.signature else {}
    return model.store.get_folder({**model.files, **signature}, folder)


def _model_of_run(store: Store, run: str, task: str) -> Model:
    manifests = read_run(store, run).manifests
    if task and task not in manifests:
        raise ConfigurationError(f"run {run!r} has no task {task!r} with a manifest; {suggest(task, list(manifests))}")
    if task:
        return model_of(store, load_digest(store, split_uri(manifests[task])[1]), f"task {task!r} of run {run!r}")
    loaded = [load_digest(store, split_uri(uri)[1]) for uri in manifests.values()]
    deployed = [manifest for manifest in loaded if isinstance(manifest, Deployment) and manifest.deployed]
    checkpoints = [manifest for manifest in loaded if isinstance(manifest, Checkpoint)]
    if not deployed and not checkpoints:
        raise ConfigurationError(f"run {run!r} has no model: it has neither a checkpoint nor a deployment (see mm1 runs {run})")
    return model_of(store, (deployed or checkpoints)[-1], f"run {run!r}")


def model_of(store: Store, manifest: Manifest, name: str) -> Model:
    """Return the model of a manifest.

    Args:
        store: the store of the manifest.
        manifest: a Checkpoint, ExportedModel or Deployment.
        name: name for messages.

    Raises:
        ConfigurationError: the manifest is of another kind, or its deployment was refused.
    """
    match manifest:
        case Deployment(exported=str(digest)):
            return model_of(store, load_digest(store, digest), name)
        case Deployment():
            raise ConfigurationError(f"{name}: the deployment has no model: {manifest.reason}")
        case ExportedModel():
            description = f"exported from checkpoint {manifest.checkpoint[:12]}"
            return Model(store, manifest.files, description, manifest.checkpoint, manifest.signature, exported=True)
        case Checkpoint():
            return Model(store, manifest.model, describe(manifest), digest_of_manifest(manifest))
        case _:
            kind = type(manifest).__name__
            raise ConfigurationError(f"{name}: expected a Checkpoint, ExportedModel or Deployment, got {kind}")
