"""Manifests of data: shards of filtered samples, and mixtures of them."""

from __future__ import annotations

from operator import not_
from typing import Literal

from pydantic import Field

from mm1.manifests.base import Digest, Files, Manifest, Record
from mm1.store.base import BlobRef


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
    """A frozen, deterministic, endless sequence of packed sequences (MM1, appendix B; shares of 45/45/10: MM1 4)."""

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
    image_layout: str = Field("", exclude_if=not_)
    """Division of images into tiles (:mod:`mm1.modeling.image_layout`); a tile counts as an image. Empty = single."""
    mark_tokens: dict[str, int] = Field({}, exclude_if=not_)
    """Mark between tiles -> its tokens."""
    weights_by: Literal["sequence", "token", "image", "label", "sample"] = "sequence"
    """Unit of the weights; labels are tokens with loss."""
    holdout: dict[str, float] = Field({}, exclude_if=not_)
    """Source -> share of its samples that are held out (:mod:`mm1.data.load.holdout`); sources without held-out samples are
    omitted."""
    one_source: bool = True
    """Whether all documents of a sequence come from one source (MM1, appendix B)."""
    cross_document_attention: bool = Field(False, exclude_if=not_)
    """Whether tokens attend to earlier documents of their sequence; otherwise documents are isolated (MM1, appendix B)."""
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

    @property
    def has_images(self) -> bool:
        """Whether its sequences can have images."""
        return any(source.num_images and source.weight for source in self.sources)
