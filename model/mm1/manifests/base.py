"""What all manifests have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm1.store.base import BlobRef

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Files = dict[str, BlobRef]
"""A folder: relative POSIX path -> content."""


class Record(BaseModel):
    """Base class of manifests and their parts: frozen, without extra fields.

    A field added after a release has ``exclude_if=not_``: it is omitted when empty, so earlier manifests keep their digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Manifest(Record):
    """Fields common to all manifests."""

    schema_version: Literal[1] = 1
    parents: tuple[Digest, ...] = ()
    """Digests of the parent manifests, in the order of their roles."""
