"""Loading of a model from a folder or from the address of a manifest."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1.checkpoint.read import load_model
from mm1.errors import ConfigurationError
from mm1.generation.device import choose_device
from mm1.generation.generator import Generator
from mm1.lineage.models import model_of
from mm1.manifests import MANIFEST_NAME, Checkpoint, Deployment, Manifest, load_digest, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.store.open import find_store


@dataclass(frozen=True)
class Example:
    """An example question on the chat page."""

    question: str
    image: bytes


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to answer."""

    generator: Generator
    examples: tuple[Example, ...] = ()


def load(model: str, store: str = "") -> LoadedModel:
    """Load a model.

    Args:
        model: an exported folder; the address of a Checkpoint, ExportedModel or Deployment; or, with a store, its digest.
        store: address of the store of the digest.

    Raises:
        ConfigurationError: it is none of these, or the deployment was refused.
        CheckpointError: a file does not match its digest, or the files are not a model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return LoadedModel(Generator(*_from_folder(folder)))
    if MANIFEST_NAME.match(model):
        address, digest = split_uri(model)
    elif store and len(model) == 64:
        address, digest = store, model
    else:
        raise ConfigurationError(
            f"model: expected a folder or the address of a manifest (<store>/manifests/<sha256>.json), got {model!r}"
        )
    opened = find_store(address)
    return _from_manifest(opened, load_digest(opened, digest), model)


def _from_manifest(store: Store, manifest: Manifest, name: str) -> LoadedModel:
    model = model_of(store, manifest, name)
    examples: tuple[Example, ...] = ()
    if isinstance(manifest, Deployment):
        question = str(manifest.sample.get("question", ""))
        examples = tuple(Example(question, store.get_bytes(ref)) for ref in manifest.images.values())
    with tempfile.TemporaryDirectory(prefix="mm1-serve-") as folder:
        if isinstance(manifest, Checkpoint):
            parts = load_model(store, manifest, Path(folder), choose_device()[1])
        else:
            parts = _from_folder(store.get_folder(model.files, Path(folder)))
    return LoadedModel(Generator(*parts), examples)


def _from_folder(folder: Path) -> tuple[Any, Any]:
    # Uses this project's code, not the copy in the folder: serving a folder must not run code from it.
    try:
        model = MM1ForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=choose_device()[1]
        )
        processor = MM1Processor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{folder} is not an exported MM1 model: {error}") from None
    return model.eval(), processor
