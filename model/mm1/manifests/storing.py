"""Reading and writing manifests in a store, under the digest of their content."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mm1.config.resolve import canonical_json, explain
from mm1.errors import ConfigurationError, DataError
from mm1.manifests.base import Manifest
from mm1.manifests.data import DataMix, RawData
from mm1.manifests.ingest import FilteredPart, FilteredParts, IngestPlan, MergedParts, RawPart, ShardedPart, ShardedParts
from mm1.manifests.models import Checkpoint, Deployment, EvalReport, ExportedModel, GateDecision, ReportPage
from mm1.manifests.studies import StudyPlan, StudyReport
from mm1.store.base import BlobRef, Store, blob_key, digest_of
from mm1.store.open import find_store

SCHEMA_VERSION = 1
MANIFEST_NAME = re.compile(r"^(?P<store>.+)/manifests/(?P<digest>[0-9a-f]{64})\.json$")

AnyManifest = Annotated[
    RawPart
    | IngestPlan
    | FilteredPart
    | FilteredParts
    | MergedParts
    | ShardedPart
    | ShardedParts
    | RawData
    | DataMix
    | Checkpoint
    | EvalReport
    | GateDecision
    | ExportedModel
    | Deployment
    | ReportPage
    | StudyPlan
    | StudyReport,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyManifest)

ManifestT = TypeVar("ManifestT", bound=Manifest)


def digest_of_manifest(manifest: Manifest) -> str:
    """Compute the SHA-256 of the manifest's canonical JSON."""
    return digest_of(canonical_json(manifest).encode())


def manifest_key(digest: str) -> str:
    """Return the object name of a manifest."""
    return f"manifests/{digest}.json"


def split_uri(uri: str) -> tuple[str, str]:
    """Split a manifest's address into (store address, digest).

    Raises:
        ConfigurationError: not the address of a manifest.
    """
    match = MANIFEST_NAME.match(uri)
    if not match:
        raise ConfigurationError(f"expected a manifest's address (<store>/manifests/<sha256>.json), got {uri!r}")
    return match["store"], match["digest"]


def publish(store: Store, manifest: Manifest) -> str:
    """Write a manifest, whose blobs must already be in the store, and return its address."""
    digest = digest_of_manifest(manifest)
    store.write(manifest_key(digest), canonical_json(manifest).encode())
    return f"{store.uri}/{manifest_key(digest)}"


def load(uri: str, kind: type[ManifestT], store: Store | None = None) -> ManifestT:
    """Read a manifest and verify its digest, schema version and kind.

    Args:
        uri: the manifest's address.
        kind: the expected class.
        store: the store to read from; the one in the address by default.

    Raises:
        ConfigurationError: not a manifest's address, or of another kind.
        DataError: missing, damaged, or of another schema version.
    """
    address, digest = split_uri(uri)
    manifest = load_digest(store or find_store(address), digest)
    if not isinstance(manifest, kind):
        raise ConfigurationError(f"{uri}: expected a manifest of kind {kind.__name__}, got {type(manifest).__name__}")
    return manifest


def load_digest(store: Store, digest: str) -> Manifest:
    """Read and verify a manifest of any kind by its digest."""
    data = store.read(manifest_key(digest))
    if digest_of(data) != digest:
        raise DataError(f"{store.uri}/{manifest_key(digest)} does not match its digest: damaged")
    try:
        manifest: Manifest = _ADAPTER.validate_json(data)
    except ValidationError as error:
        raise DataError(
            f"{store.uri}/{manifest_key(digest)} was written by another version of MM1 "
            f"(this one reads schema {SCHEMA_VERSION}): {explain(error)[:300]}"
        ) from None
    return manifest


def blobs_of(value: Any) -> set[str]:
    """Collect the digests of all blobs referenced by a manifest or a part of one."""
    return {ref.sha256 for ref in refs_of(value)}


def refs_of(value: Any) -> set[BlobRef]:
    """Collect all blobs referenced by a manifest or a part of one."""
    if isinstance(value, BlobRef):
        return {value}
    if isinstance(value, BaseModel):
        return refs_of([getattr(value, name) for name in type(value).model_fields])
    if isinstance(value, dict):
        return refs_of(list(value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(refs_of, value)) if value else set()
    return set()


def load_whole(store: Store, digest: str, kind: str = "") -> Manifest:
    """Read a manifest and check that the store has everything that its readers need: blobs, and manifests with content.

    Parents that are provenance only may be gone. Blobs are looked up by name and size; their content is not read.

    Args:
        store: the store.
        digest: digest of the manifest.
        kind: the expected kind; empty for any.

    Raises:
        DataError: a manifest is missing, damaged, or of another kind; or a blob is missing.
    """
    manifest = load_digest(store, digest)
    name = type(manifest).__name__
    if kind and name != kind:
        raise DataError(f"{store.uri}/{manifest_key(digest)}: expected a manifest of kind {kind}, got {name}")
    refs = refs_of(manifest)
    if isinstance(manifest, DataMix):
        refs |= refs_of(load_digest(store, manifest.raw))
    elif isinstance(manifest, Deployment) and manifest.exported:
        refs |= refs_of(load_digest(store, manifest.exported))
    for ref in store.lost(sorted(refs, key=lambda ref: ref.sha256)):
        raise DataError(f"{store.uri}/{blob_key(ref)} does not exist, or is shorter than it was")
    return manifest
