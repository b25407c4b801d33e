"""Loading of a model for the server."""

from __future__ import annotations

from dataclasses import dataclass

from mm1.checkpoint.open import OpenedModel, open_model
from mm1.generation.device import choose_device
from mm1.generation.generator import Generator
from mm1.lineage.signing import Signatures
from mm1.manifests import Deployment


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
    digest: str = ""
    """Digest of its manifest, from which ``mm1 lineage`` walks back to the raw shards; empty for a folder."""


def load(model: str, store: str = "", signatures: Signatures | None = None) -> LoadedModel:
    """Load a model.

    Args:
        model: an exported folder; the address of a Checkpoint, ExportedModel or Deployment; or, with a store, its digest.
        store: address of the store of the digest.
        signatures: requirements for its signature; none by default.

    Raises:
        ConfigurationError: it is none of these, or the deployment was refused.
        CheckpointError: a file does not match its digest or the signature, or the files are not a whole model.
    """
    opened = open_model(model, store, signatures, choose_device()[1])
    return LoadedModel(Generator(opened.model, opened.processor), _examples(opened), opened.digest)


def _examples(opened: OpenedModel) -> tuple[Example, ...]:
    if opened.store is None or not isinstance(opened.manifest, Deployment):
        return ()
    question = str(opened.manifest.sample.get("question", ""))
    return tuple(Example(question, opened.store.get_bytes(ref)) for ref in opened.manifest.images.values())
