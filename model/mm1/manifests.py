r"""Manifests: typed records passed between steps.

A manifest holds *content* only: the kind of result, its parents, its configuration, its size, and the digests of its blobs.
Addresses, times, hosts, attempts and cache hits are *provenance* and are kept in run records
(``<store>/runs/<run>/<task>.json``). The digest of a manifest is taken of its canonical JSON, so the same work has the same
digest on every engine. Steps pass each other its address, ``<store>/manifests/<sha256>.json``.

Lineage::

    RawData -> DataMix -> Checkpoint -> Checkpoint (SFT) -> EvalReport -> GateDecision
                                    \-> ExportedModel -> Deployment

Within ingest, on many machines: ``IngestPlan -> FilteredParts -> MergedParts -> ShardedParts -> RawData``.
"""

from __future__ import annotations

import re
from operator import not_
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
    """Base class of manifests and their parts: frozen, without extra fields.

    A field added after a release has ``exclude_if=not_``: it is omitted when empty, so earlier manifests keep their digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Manifest(Record):
    """Fields common to all manifests."""

    schema_version: Literal[1] = 1
    parents: tuple[Digest, ...] = ()
    """Digests of the parent manifests, in the order of their roles."""


class Shard(Record):
    """One webdataset tar with its offset index (parquet)."""

    name: str
    tar: BlobRef
    index: BlobRef
    num_samples: int
    num_images: int
    num_text_tokens: int
    """Text tokens including the end-of-document tokens, without image tokens."""
    group: str = Field("", exclude_if=not_)
    """Sub-source: first folder of the raw files below the source's address; empty for files directly there."""
    features: dict[str, float] = {}
    """Quality measures: the columns of :mod:`mm1.data.features.definitions` that can be computed from the content."""


class RawFile(Record):
    """A raw file at the time of listing, or a range of it."""

    name: str
    """Relative to the source's address, with forward slashes."""
    num_bytes: int
    """Size of the file, or of the range."""
    version: str
    """Changes with the content: an object's ETag, or the modification time and size of a local file."""
    start: int = Field(0, exclude_if=not_)
    """Begin of the range, in bytes; for tables, in row groups."""
    stop: int | None = Field(None, exclude_if=not_)
    """End of the range; None = the end of the file."""
    lines_before: int | None = Field(None, exclude_if=not_)
    """Ends of lines before the byte that precedes the range, for the numbers of its lines; None = not counted."""


class RawPart(Manifest):
    """Some raw files of one source, or a range of one file: the unit of work of ingest."""

    kind: Literal["RawPart"] = "RawPart"
    source: str
    number: int
    """Index of the part within its source; prefix of its sample keys."""
    format: str
    group: str = Field("", exclude_if=not_)
    """Sub-source of all its files (:attr:`Shard.group`)."""
    files: tuple[RawFile, ...]

    @property
    def label(self) -> str:
        """The part in words, for messages: its files, or the range of its file."""
        first, last = self.files[0], self.files[-1]
        if len(self.files) > 1:
            return f"{first.name} to {last.name}"
        return first.name if first.start == 0 and first.stop is None else f"{first.name} from {first.start:,}"


class PlannedSource(Record):
    """What a source holds."""

    num_files: int
    num_bytes: int
    left_out: dict[str, int] = Field({}, exclude_if=not_)
    """Reason -> files (or members of archives) that are not read."""
    examples: dict[str, tuple[str, ...]] = {}
    """Reason -> some of them."""


class IngestPlan(Manifest):
    """All parts of all sources, grouped into batches for the mappers."""

    kind: Literal["IngestPlan"] = "IngestPlan"
    sources: dict[str, PlannedSource]
    parts: tuple[RawPart, ...]
    num_batches: int

    def batch(self, number: int) -> tuple[RawPart, ...]:
        """Return the parts of a batch."""
        return self.parts[number :: self.num_batches]


class FilteredPart(Manifest):
    """A part's samples that passed the filters which need no other part; parents: the RawPart."""

    kind: Literal["FilteredPart"] = "FilteredPart"
    source: str
    number: int
    format: str
    group: str = Field("", exclude_if=not_)
    preset: str
    num_read: int
    """Rows: samples and odd rows."""
    dropped: dict[str, int] = {}
    """Filter or kind of odd row -> rows dropped."""
    removed: dict[str, int] = Field({}, exclude_if=not_)
    """Filter -> images and texts removed from documents."""
    odd: dict[str, int] = Field({}, exclude_if=not_)
    """Kind of odd row -> rows that cannot be read; they are among ``dropped``, too."""
    left_out: dict[str, int] = Field({}, exclude_if=not_)
    """Reason -> members of archives and pieces of rows that are not read."""
    examples: dict[str, tuple[str, ...]] = {}
    """Filter, kind of odd row or reason -> examples: raw file, row, detail."""
    tars: tuple[BlobRef, ...]
    """Ordered webdataset tars without an index."""
    signatures: BlobRef
    """Parquet with one row per sample, used for deduplication (:mod:`mm1.data.prepare.duplicates`)."""


class FilteredParts(Manifest):
    """The filtered parts of one batch; parents: the IngestPlan."""

    kind: Literal["FilteredParts"] = "FilteredParts"
    batch: int
    parts: tuple[FilteredPart, ...]


class MergedParts(Manifest):
    """Results that need all parts: duplicates and the tokenizer; parents: the FilteredParts of all batches, in order."""

    kind: Literal["MergedParts"] = "MergedParts"
    parts: dict[Digest, Digest] = Field({}, exclude_if=not_)
    """RawPart -> FilteredPart, as written by MM1 0.1.0; now the parents list the batches."""
    tokenizer_from: Digest | None = None
    """The manifest that the tokenizer was reused from."""
    drops: dict[str, BlobRef] = {}
    """Digest of a FilteredPart -> parquet of its dropped samples and images, with reasons; parts without drops are omitted."""
    tokenizer: Files


class ShardedPart(Manifest):
    """Final shards of a part; parents: MergedParts, FilteredPart."""

    kind: Literal["ShardedPart"] = "ShardedPart"
    source: str
    number: int
    group: str = Field("", exclude_if=not_)
    dropped: dict[str, int] = {}
    """Dropped by the merge: filter -> samples."""
    removed: dict[str, int] = Field({}, exclude_if=not_)
    """Filter -> images removed from documents by the merge."""
    examples: dict[str, tuple[str, ...]] = {}
    shards: tuple[Shard, ...]


class ShardedParts(Manifest):
    """The sharded parts of one batch; parents: MergedParts, FilteredParts."""

    kind: Literal["ShardedParts"] = "ShardedParts"
    batch: int
    parts: tuple[ShardedPart, ...]


class SourceData(Record):
    """Shards of one source and the counts of what its filters dropped."""

    format: str
    """Input formats, separated by commas: img2dataset, obelics, mmc4, jsonl, parquet, llava."""
    preset: str
    """Name of the filter preset."""
    num_files: int = Field(0, exclude_if=not_)
    """Files that were read."""
    num_bytes: int = Field(0, exclude_if=not_)
    """Their size."""
    num_read: int
    """Rows in them: samples and odd rows."""
    dropped: dict[str, int] = {}
    """Filter or kind of odd row -> rows dropped."""
    removed: dict[str, int] = Field({}, exclude_if=not_)
    """Filter -> images and texts removed from documents."""
    odd: dict[str, int] = Field({}, exclude_if=not_)
    """Kind of odd row -> rows that cannot be read; they are among ``dropped``, too."""
    left_out: dict[str, int] = Field({}, exclude_if=not_)
    """Reason -> files, members of archives and pieces of rows that are not read."""
    examples: dict[str, tuple[str, ...]] = {}
    """Filter, kind of odd row or reason -> examples: raw file, row, detail."""
    shards: tuple[Shard, ...]

    @property
    def num_samples(self) -> int:
        """Total samples in all shards."""
        return sum(shard.num_samples for shard in self.shards)

    @property
    def num_images(self) -> int:
        """Total images in all shards."""
        return sum(shard.num_images for shard in self.shards)

    @property
    def num_text_tokens(self) -> int:
        """Total text tokens in all shards."""
        return sum(shard.num_text_tokens for shard in self.shards)


class RawData(Manifest):
    """Filtered, sharded data: the output of ingest."""

    kind: Literal["RawData"] = "RawData"
    sources: dict[str, SourceData]
    tokenizer: Files
    """Hugging Face folder of the tokenizer used to count tokens."""


class MixSource(Record):
    """One source in a mixture."""

    name: str
    """A source of the data (``captions``), or a sub-source (``captions/cc12m``: its shards of that group)."""
    weight: float = Field(ge=0)
    """Requested share of sequences, tokens, images or labels, normalised over all sources."""
    sequence_share: float | None = None
    """Share of sequences (of documents, if sequences mix sources) that results in the weight; None = the weight itself."""
    shards: BlobRef | None = None
    """Digests of the selected tars, one per line; None = all shards of the source in the parent."""
    num_held_out: int = Field(0, exclude_if=not_)
    """Samples of the selected shards that are held out, and therefore not among the following counts."""
    num_samples: int
    num_images: int
    num_text_tokens: int

    @property
    def share(self) -> float:
        """Share of sequences, or of documents if sequences mix sources."""
        return self.weight if self.sequence_share is None else self.sequence_share


class DataMix(Manifest):
    """A frozen, deterministic, endless sequence of packed sequences (MM1 2.2: 45/45/10)."""

    kind: Literal["DataMix"] = "DataMix"
    raw: Digest
    """The RawData that contains the sources' shards."""
    sources: tuple[MixSource, ...]
    order_seed: int
    sequence_length: int
    """Tokens per packed sequence."""
    max_images: int
    """Maximum images per packed sequence."""
    image_tokens: int
    """Tokens per image."""
    image_size_px: int
    """Side of the model's square input images, pixels."""
    weights_by: Literal["sequence", "token", "image", "label"] = "sequence"
    """Unit of the weights; labels are tokens with loss."""
    holdout: dict[str, float] = Field({}, exclude_if=not_)
    """Source -> share of its samples that are held out (:mod:`mm1.data.load.holdout`); sources without held-out samples are
    omitted."""
    one_source: bool = True
    """Whether all documents of a sequence come from one source (MM1 2.2)."""
    long_documents: Literal["cut", "drop"] = "cut"
    """How documents longer than a sequence are handled."""
    max_epochs: float = 0.0
    """Maximum number of epochs over a source; 0 = unlimited."""
    max_sequences: int | None = None
    """Number of sequences after which the first source reaches ``max_epochs``."""
    snapshot: dict[str, str] = {}
    """How the shards were selected: ``as_of`` and thresholds of the feature store, as given by the user."""
    packing: dict[str, float]
    """Measured over the first sequences: fill, images and documents per sequence, fraction of dropped documents."""
    tokenizer: Files


class Checkpoint(Manifest):
    """A model; unfinished training also has the state to resume from."""

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
    """Tokens of all sequences, excluding padding."""
    images_seen: int
    skipped: tuple[int, ...] = ()
    """Indices of global batches skipped because the loss or the gradient was not finite."""
    world_size: int
    num_parameters: int
    model: Files
    """Hugging Face folder: configuration, safetensors, processor and tokenizer files."""
    trainer: Files = {}
    """Optimizer and scheduler state, one file per rank; empty in a finished checkpoint."""
    history: BlobRef | None = None
    """Parquet of the reproducible metrics: step, lr, loss, loss per source, gradient norm."""


class Score(Record):
    """One metric of an evaluation."""

    task: str
    split: str
    metric: str
    shots: int
    control: Literal["none", "shuffled"] = "none"
    """shuffled: every query image is swapped with another item's."""
    value: float
    stderr: float
    """Standard error over items (not over training seeds)."""
    num_items: int
    chance: float | None = None
    """Score of random guessing, if known."""


class EvalReport(Manifest):
    """Few-shot evaluation of a checkpoint."""

    kind: Literal["EvalReport"] = "EvalReport"
    checkpoint: Digest
    benchmarks: Digest
    """Digest of the names and contents of the benchmark files."""
    config: dict[str, Any]
    scores: tuple[Score, ...]
    examples: BlobRef
    """JSON lines: task, shots, question, answer, prediction, correct, image (digest of an image in `images`)."""
    images: Files = {}


class GateRule(Record):
    """One gate rule and its result."""

    rule: str
    """For example ``captions/0/content_f1 >= 0.85``."""
    value: float | None
    threshold: float
    passed: bool
    reason: str = ""


class GateDecision(Manifest):
    """Decision whether a checkpoint may be deployed."""

    kind: Literal["GateDecision"] = "GateDecision"
    checkpoint: Digest
    decision: Literal["pass", "fail"]
    rules: tuple[GateRule, ...]


class ExportedModel(Manifest):
    """A folder that transformers loads without extra code (safetensors only)."""

    kind: Literal["ExportedModel"] = "ExportedModel"
    checkpoint: Digest
    files: Files
    contract: dict[str, float]
    """Results of the contract test, such as the largest difference of logits from the trainer's model."""


class Deployment(Manifest):
    """Output of deploy: a model ready to be served, or the reason for its rejection."""

    kind: Literal["Deployment"] = "Deployment"
    deployed: bool
    reason: str
    exported: Digest | None = None
    sample: dict[str, Any] = {}
    """The chat question used to test the server: question, answer, image (digest)."""
    images: Files = {}


class ReportPage(Manifest):
    """An HTML report."""

    kind: Literal["ReportPage"] = "ReportPage"
    title: str
    page: BlobRef


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
    | ReportPage,
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
    if isinstance(value, BlobRef):
        return {value.sha256}
    if isinstance(value, BaseModel):
        return blobs_of([getattr(value, name) for name in type(value).model_fields])
    if isinstance(value, dict):
        return blobs_of(list(value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(blobs_of, value)) if value else set()
    return set()
