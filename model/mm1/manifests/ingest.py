"""Manifests within ingest: what the sources hold, and the parts that are filtered and sharded."""

from __future__ import annotations

from operator import not_
from typing import Literal

from pydantic import Field

from mm1.manifests.base import Digest, Files, Manifest, Record
from mm1.manifests.data import Shard
from mm1.store.base import BlobRef


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
