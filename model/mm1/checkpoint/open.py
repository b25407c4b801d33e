"""Opening of a model by name: a folder, or a manifest in a store. Serving and evaluation use it.

name -> files, verified against their digests -> signature checked -> model and processor (folder.py)
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mm1.checkpoint import adapters
from mm1.checkpoint.folder import PROCESSOR_FILES, load_folder, load_processor
from mm1.checkpoint.read import load_model
from mm1.errors import ConfigurationError
from mm1.lineage.models import fetch_model, model_of
from mm1.lineage.signing import Signatures
from mm1.manifests import MANIFEST_NAME, Checkpoint, Manifest, load_digest, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.store.open import find_store


@dataclass(frozen=True)
class OpenedModel:
    """A model in memory, and where it comes from."""

    model: MM1ForConditionalGeneration
    processor: MM1Processor
    store: Store | None = None
    """The store of the manifest; None for a folder."""
    manifest: Manifest | None = None
    """Checkpoint, ExportedModel or Deployment; None for a folder."""
    digest: str = ""
    """Digest of the manifest; empty for a folder."""


def open_model(
    name: str, store: str = "", signatures: Signatures | None = None, dtype: torch.dtype = torch.float32
) -> OpenedModel:
    """Load a model.

    Args:
        name: an exported folder; the folder of an adapter, whose configuration names its base model; the address of a
            Checkpoint, ExportedModel or Deployment; or, with a store, its digest.
        store: address of the store of the digest.
        signatures: requirements for its signature; none by default.
        dtype: dtype of the weights.

    Raises:
        ConfigurationError: it is none of these, or the deployment was refused.
        CheckpointError: a file does not match its digest or the signature, or the files are not a whole model.
    """
    signatures = signatures or Signatures()
    folder = Path(name).expanduser()
    if (folder / adapters.CONFIG).is_file():
        signatures.refuse_unsigned(name, "adapter")
        opened = open_model(adapters.base_of(folder), store, signatures, dtype)
        model = adapters.load_adapter(opened.model, folder).eval()
        own = (folder / PROCESSOR_FILES[0]).is_file()  # peft alone writes none: images are those of the base
        return replace(opened, model=model, processor=load_processor(folder, model) if own else opened.processor)
    if folder.is_dir():
        signatures.check(folder)
        return OpenedModel(*load_folder(folder, dtype))
    if MANIFEST_NAME.match(name):
        address, digest = split_uri(name)
    elif store and len(name) == 64:
        address, digest = store, name
    else:
        raise ConfigurationError(
            f"model: expected a folder or the address of a manifest (<store>/manifests/<sha256>.json), got {name!r}"
        )
    origin = find_store(address)
    manifest = load_digest(origin, digest)
    return OpenedModel(*_load_manifest(origin, manifest, name, signatures, dtype), origin, manifest, digest)


def _load_manifest(
    store: Store, manifest: Manifest, name: str, signatures: Signatures, dtype: torch.dtype
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    model = model_of(store, manifest, name)
    with tempfile.TemporaryDirectory(prefix="mm1-model-") as folder:
        if isinstance(manifest, Checkpoint):
            signatures.refuse_unsigned(name, "Checkpoint")
            return load_model(store, manifest, Path(folder), dtype)
        fetch_model(model, Path(folder))
        signatures.check(Path(folder), name)
        return load_folder(Path(folder), dtype)
