r"""Manifests: the typed records that steps hand to each other.

A manifest holds *content* only: what was made, from which parents, with which configuration, how much of it, and the digests
of its blobs. Addresses, times, hosts, attempts and cache hits are *provenance* and live in run records
(``<store>/runs/<run>/<task>.json``). The canonical JSON of a manifest gives its digest, so that the same work has the same
digest on every engine. Between steps travels its address, ``<store>/manifests/<sha256>.json``.

Lineage::

    RawData -> DataMix -> Checkpoint -> Checkpoint (SFT) -> EvalReport -> GateDecision
                                    \-> ExportedModel -> Deployment

Within ingest, by many machines: ``RawPart -> FilteredPart -> MergedParts -> ShardedPart -> RawData``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mm1.config.resolve import canonical_json, explain
from mm1.errors import ConfigurationError, DataError
from mm1.store.base import BlobRef, Store, digest_of
from mm1.store.open import find_store

SCHEMA_VERSION = 1
MANIFEST_NAME = re.compile(r"^(?P<store>.+)/manifests/(?P<digest>[0-9a-f]{64})\.json$")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Files = dict[str, BlobRef]
"""A folder: relative POSIX path -> content."""


class Record(BaseModel):
    """Base of manifests and of their parts: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Manifest(Record):
    """What every manifest has."""

    schema_version: Literal[1] = 1
    parents: tuple[Digest, ...] = ()
    """Digests of the manifests that this one was made from, in the order of their roles."""


class Shard(Record):
    """One webdataset tar with its offset index (parquet)."""

    name: str
    tar: BlobRef
    index: BlobRef
    num_samples: int
    num_images: int
    num_text_tokens: int
    """Text tokens with the end-of-document tokens, without image tokens."""
    features: dict[str, float] = {}
    """What is known about its quality: the columns of :mod:`mm1.data.features.definitions` that follow from its content."""


class RawFile(Record):
    """A raw file as it was found."""

    name: str
    """Relative to the source's address, with slashes."""
    num_bytes: int
    version: str
    """Changes with its content: an object's ETag, or time and size of a local file."""


class RawPart(Manifest):
    """What one mapper of ingest reads: some raw files of one source."""

    kind: Literal["RawPart"] = "RawPart"
    source: str
    number: int
    """Place of the part among those of its source; begins the keys of its samples."""
    format: str
    files: tuple[RawFile, ...]


class FilteredPart(Manifest):
    """A part's samples that passed the filters which need to see nothing else; parents: the RawPart."""

    kind: Literal["FilteredPart"] = "FilteredPart"
    source: str
    number: int
    format: str
    preset: str
    num_read: int
    dropped: dict[str, int] = {}
    """Filter -> samples (or images of documents) dropped by it."""
    examples: dict[str, tuple[str, ...]] = {}
    """Filter -> a few of its victims: raw file, row, reason."""
    tars: tuple[BlobRef, ...]
    """Webdataset tars without an index, in order."""
    signatures: BlobRef
    """Parquet with a row per sample: what duplicates are found by (:mod:`mm1.data.prepare.duplicates`)."""


class MergedParts(Manifest):
    """What can be known only of all parts together: duplicates and the tokenizer; parents: the FilteredParts in order."""

    kind: Literal["MergedParts"] = "MergedParts"
    parts: dict[Digest, Digest]
    """RawPart -> FilteredPart."""
    tokenizer_from: Digest | None = None
    """The manifest that the tokenizer was taken over from."""
    drops: dict[str, BlobRef] = {}
    """Digest of a FilteredPart -> parquet of its samples and images that go, and why; parts that lose nothing are left out."""
    tokenizer: Files


class ShardedPart(Manifest):
    """A part's final shards; parents: MergedParts, FilteredPart."""

    kind: Literal["ShardedPart"] = "ShardedPart"
    source: str
    number: int
    dropped: dict[str, int] = {}
    """What the merge dropped: filter -> samples (or images of documents)."""
    examples: dict[str, tuple[str, ...]] = {}
    shards: tuple[Shard, ...]


class SourceData(Record):
    """The shards of one source and what its filters dropped."""

    format: str
    """Format read: img2dataset, obelics, mmc4, jsonl, parquet, llava."""
    preset: str
    """Filter preset used."""
    num_read: int
    """Samples found in the raw files."""
    dropped: dict[str, int] = {}
    """Filter -> samples (or images) dropped by it."""
    examples: dict[str, tuple[str, ...]] = {}
    """Filter -> a few of its victims: raw file, row, reason."""
    shards: tuple[Shard, ...]

    @property
    def num_samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def num_images(self) -> int:
        """Images in all shards."""
        return sum(shard.num_images for shard in self.shards)

    @property
    def num_text_tokens(self) -> int:
        """Text tokens in all shards."""
        return sum(shard.num_text_tokens for shard in self.shards)


class RawData(Manifest):
    """Filtered, sharded data: the outcome of ingest."""

    kind: Literal["RawData"] = "RawData"
    sources: dict[str, SourceData]
    tokenizer: Files
    """The tokenizer's Hugging Face folder, with which tokens were counted."""


class MixSource(Record):
    """A source's part in a mixture."""

    name: str
    weight: float = Field(ge=0)
    """Share that was asked for, of sequences or of tokens, normalised over all sources."""
    sequence_share: float | None = None
    """Share of sequences (of documents, where sequences hold several sources) that gives the weight; None = the weight."""
    shards: BlobRef | None = None
    """Digests of the tars that enter, one a line; None = all shards of the source in the parent."""
    num_samples: int
    num_images: int
    num_text_tokens: int

    @property
    def share(self) -> float:
        """Share of sequences; where sequences hold documents of several sources, of documents."""
        return self.weight if self.sequence_share is None else self.sequence_share


class DataMix(Manifest):
    """A frozen, deterministic, endless order of packed sequences (MM1 2.2: 45/45/10)."""

    kind: Literal["DataMix"] = "DataMix"
    raw: Digest
    """The RawData that the sources' shards are in."""
    sources: tuple[MixSource, ...]
    order_seed: int
    sequence_length: int
    """Tokens per packed sequence."""
    max_images: int
    """Images per packed sequence at most."""
    image_tokens: int
    """Tokens that stand for one image."""
    image_size_px: int
    """Side of the square images that the model gets."""
    weights_by: Literal["sequence", "token"] = "sequence"
    """What the weights are shares of."""
    one_source: bool = True
    """Whether a sequence holds documents of one source only (MM1 2.2)."""
    long_documents: Literal["cut", "drop"] = "cut"
    """What happens to documents longer than a sequence."""
    max_epochs: float = 0.0
    """How often a source may be repeated; 0 = without bound."""
    max_sequences: int | None = None
    """Sequences after which the first source has been repeated ``max_epochs`` times."""
    snapshot: dict[str, str] = {}
    """How the shards were chosen: ``as_of`` and thresholds of the feature store, as they were given."""
    packing: dict[str, float]
    """Measured over the first sequences: fill, images and documents per sequence, share of dropped documents."""
    tokenizer: Files


class Checkpoint(Manifest):
    """A model, with the state to go on training where it is unfinished work."""

    kind: Literal["Checkpoint"] = "Checkpoint"
    stage: str
    """text, pretrain, sft or imported."""
    recipe: str
    config: dict[str, Any]
    """The resolved RunConfig, without addresses."""
    step: int
    total_steps: int
    sequences_seen: int
    tokens_seen: int
    """Tokens of all sequences, padding left out."""
    images_seen: int
    skipped: tuple[int, ...] = ()
    """Global batches (by number) left out because the loss or the gradient was not finite."""
    world_size: int
    num_parameters: int
    model: Files
    """Hugging Face folder: config, safetensors, processor and tokenizer files."""
    trainer: Files = {}
    """Optimiser and scheduler state, one file per rank; empty in a finished checkpoint."""
    history: BlobRef | None = None
    """Parquet of what is the same in every repetition: step, lr, loss, loss per source, gradient norm."""


class Score(Record):
    """One figure of an evaluation."""

    task: str
    split: str
    metric: str
    shots: int
    control: Literal["none", "shuffled"] = "none"
    """shuffled: every query image swapped with another item's."""
    value: float
    stderr: float
    """Standard error over the items (not over training seeds)."""
    num_items: int
    chance: float | None = None
    """What guessing gives, where it is known."""


class EvalReport(Manifest):
    """Few-shot scores of a checkpoint."""

    kind: Literal["EvalReport"] = "EvalReport"
    checkpoint: Digest
    benchmarks: Digest
    """Digest over the names and contents of the benchmark files used."""
    config: dict[str, Any]
    scores: tuple[Score, ...]
    examples: BlobRef
    """JSON lines: task, shots, question, answer, prediction, correct, image (digest of an image in `images`)."""
    images: Files = {}


class GateRule(Record):
    """One rule of the gate with its verdict."""

    rule: str
    """For example ``captions/0/content_f1 >= 0.85``."""
    value: float | None
    threshold: float
    passed: bool
    reason: str = ""


class GateDecision(Manifest):
    """Whether a checkpoint may be deployed."""

    kind: Literal["GateDecision"] = "GateDecision"
    checkpoint: Digest
    decision: Literal["pass", "fail"]
    rules: tuple[GateRule, ...]


class ExportedModel(Manifest):
    """A folder that plain transformers loads (safetensors only)."""

    kind: Literal["ExportedModel"] = "ExportedModel"
    checkpoint: Digest
    files: Files
    contract: dict[str, float]
    """Measured by the contract test: largest difference of logits against the trainer's model, and the like."""


class Deployment(Manifest):
    """The outcome of deploy: a model that may be served, or the reason why not."""

    kind: Literal["Deployment"] = "Deployment"
    deployed: bool
    reason: str
    exported: Digest | None = None
    sample: dict[str, Any] = {}
    """The chat question that the server answered: question, answer, image (digest)."""
    images: Files = {}


class ReportPage(Manifest):
    """An HTML report."""

    kind: Literal["ReportPage"] = "ReportPage"
    title: str
    page: BlobRef


AnyManifest = Annotated[
    RawPart
    | FilteredPart
    | MergedParts
    | ShardedPart
    | RawData
    | DataMix
    | Checkpoint
    | EvalReport
    | GateDecision
    | ExportedModel
    | Deployment
    | ReportPage,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyManifest)

ManifestT = TypeVar("ManifestT", bound=Manifest)


def digest_of_manifest(manifest: Manifest) -> str:
    """SHA-256 of the manifest's canonical JSON."""
    return digest_of(canonical_json(manifest).encode())


def manifest_key(digest: str) -> str:
    """The object's name of a manifest."""
    return f"manifests/{digest}.json"


def split_uri(uri: str) -> tuple[str, str]:
    """A manifest's address -> (store address, digest).

    Raises:
        ConfigurationError: it is not the address of a manifest.
    """
    match = MANIFEST_NAME.match(uri)
    if not match:
        raise ConfigurationError(f"{uri!r} is not a manifest's address (<store>/manifests/<sha256>.json)")
    return match["store"], match["digest"]


def publish(store: Store, manifest: Manifest) -> str:
    """Write a manifest (its blobs are in the store already) and give its address."""
    digest = digest_of_manifest(manifest)
    store.write(manifest_key(digest), canonical_json(manifest).encode())
    return f"{store.uri}/{manifest_key(digest)}"


def load(uri: str, kind: type[ManifestT], store: Store | None = None) -> ManifestT:
    """Read a manifest and verify it: digest, schema version, kind.

    Args:
        uri: the manifest's address.
        kind: the class that it must be of.
        store: the store to read from; by default the one in the address.

    Raises:
        ConfigurationError: not a manifest's address, or of another kind.
        DataError: it is not there, damaged, or of another schema version.
    """
    address, digest = split_uri(uri)
    manifest = load_digest(store or find_store(address), digest)
    if not isinstance(manifest, kind):
        raise ConfigurationError(f"{uri} is a {type(manifest).__name__}, but a {kind.__name__} is wanted here")
    return manifest


def load_digest(store: Store, digest: str) -> Manifest:
    """Read and verify the manifest of a digest, of whatever kind."""
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
    """Digests of all blobs that a manifest (or a part of one) refers to."""
    if isinstance(value, BlobRef):
        return {value.sha256}
    if isinstance(value, BaseModel):
        return blobs_of([getattr(value, name) for name in type(value).model_fields])
    if isinstance(value, dict):
        return blobs_of(list(value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(blobs_of, value)) if value else set()
    return set()
