"""The LoRA adapter of a checkpoint: its files, and the checkpoint that it was trained on. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from mm1.config.resolve import canonical_json
from mm1.errors import ConfigurationError
from mm1.lineage.models import Model
from mm1.manifests import Checkpoint, Files, load_digest, manifest_key
from mm1.store.base import Store

PREFIX = "adapter/"
"""Of the adapter's files among those of its checkpoint."""
CONFIG = "adapter_config.json"
PROCESSOR = ("chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of the processor: the size of images and their division into tiles may differ from the base model's."""


class Adapter(NamedTuple):
    """An adapter in a store."""

    store: Store
    files: Files
    """Files in peft's format, and those of the processor."""
    base: str
    """Digest of the checkpoint whose weights it adapts."""

    def write(self, folder: Path) -> None:
        """Write a folder that peft loads, and ``mm1 serve``, which finds the base model in the store."""
        for name, ref in self.files.items():
            (folder / name).write_bytes(self.store.get_bytes(ref))
        fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        fields["base_model_name_or_path"] = f"{self.store.uri}/{manifest_key(self.base)}"
        (folder / CONFIG).write_text(canonical_json(fields) + "\n", encoding="utf-8")


def adapter_of(model: Model) -> Adapter:
    """Find the adapter of a model.

    Raises:
        ConfigurationError: the model has none, or its base model is not in the store.
    """
    files = {name.removeprefix(PREFIX): ref for name, ref in model.files.items() if name.startswith(PREFIX)}
    if not files:
        raise ConfigurationError(f"{model.description} has no adapter: only a checkpoint of a run with train.lora.rank has one")
    files |= {name: model.files[name] for name in PROCESSOR if name in model.files}
    return Adapter(model.store, files, _base_of(model.store, model.checkpoint))


def _base_of(store: Store, digest: str) -> str:
    for parent in load_digest(store, digest).parents:
        if not store.exists(manifest_key(parent)):
            continue
        manifest = load_digest(store, parent)
        if isinstance(manifest, Checkpoint):
            return _base_of(store, parent) if any(name.startswith(PREFIX) for name in manifest.model) else parent
    raise ConfigurationError(
        f"the checkpoint that {digest[:12]} was trained on is not in {store.uri}: export the model with its weights instead "
        "(without --adapter)"
    )
