"""MM1 shards: standard webdataset tars, each with a parquet index for random access.

    samples -> ShardWriter -> captions-00000.tar, ... -> write_index (counts tokens) -> captions-00000.index.parquet

For each sample, a tar contains ``<key>.json`` followed by its images; stock webdataset can read it. Equal samples give equal
bytes: JSON keys are sorted, times and owners are zero, modes are fixed. The index has one row per sample (those written before
``num_label_tokens``, ``content_hash`` and ``image_sizes`` existed lack these columns):

=================  ===========  ===============================================================================
key                string
offset             int64        bytes from the tar's start to the sample's first header
size               int64        bytes of all its members, including headers and padding
crc32              uint32       checksum of those bytes
num_images         int32
num_text_tokens    int32        including the end-of-document token, without image tokens
parts              list<int32>  tokens of each text part, -1 for an image; used to split long documents
num_label_tokens   int32        those text tokens that are trained on, including the end-of-document token
content_hash       uint64       hash of the images, or of the texts without images; it chooses the held-out samples
image_sizes        list<int32>  width and height of each image in ``parts``, in pixels; they decide how it is cut into tiles
=================  ===========  ===============================================================================
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.config import ShardLimits
from mm1.data.images import extension_of, size_of
from mm1.data.reader import TAR_SHA256, parse_sample
from mm1.data.sample import IMAGE_PLACE, ImagePart, Sample, TextPart
from mm1.data.tar import end_of, member, walk, write_end
from mm1.data.tokenizer import TextTokenizer
from mm1.store.base import BlobRef, digest_of_file

TOKENIZER_BATCH = 2_000
"""Number of samples tokenised per call."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("num_images", pa.int32()),
        ("num_text_tokens", pa.int32()),
        ("parts", pa.list_(pa.int32())),
        ("num_label_tokens", pa.int32()),
        ("content_hash", pa.uint64()),
        ("image_sizes", pa.list_(pa.int32())),
    ]
)


@dataclass
class WrittenShard:
    """A finished tar without an index."""

    path: Path
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    num_images: int = 0


class ShardWriter:
    """Context manager that writes samples to numbered tars of limited size.

    Args:
        folder: output folder.
        prefix: prefix of their names, for example the source's name.
        limits: limits at which a new tar is started.
    """

    def __init__(self, folder: Path, prefix: str, limits: ShardLimits | None = None) -> None:
        self.folder = folder
        self.prefix = prefix
        self.limits = limits or ShardLimits()
        self.shards: list[WrittenShard] = []
        self._file: BinaryIO | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        file = self._room()
        shard = self.shards[-1]
        members = [member(f"{sample.key}.json", sample.to_json())]
        members += [member(f"{sample.key}.{index}.{extension_of(image)}", image) for index, image in enumerate(sample.images)]
        data = b"".join(members)
        shard.keys.append(sample.key)
        shard.offsets.append(file.tell())
        shard.sizes.append(len(data))
        shard.checksums.append(zlib.crc32(data))
        file.write(data)
        shard.num_images += len(sample.images)

    @property
    def num_samples(self) -> int:
        """Samples written so far."""
        return sum(len(shard.keys) for shard in self.shards)

    def close(self) -> None:
        """Close the current tar."""
        if self._file is not None:
            write_end(self._file)
            self._file.close()
            self._file = None

    def _room(self) -> BinaryIO:
        if self._file is not None:
            full = self._file.tell() >= self.limits.max_bytes or len(self.shards[-1].keys) >= self.limits.max_samples
            if full:
                self.close()
        if self._file is None:
            path = self.folder / f"{self.prefix}-{len(self.shards):05d}.tar"
            self._file = path.open("wb")
            self.shards.append(WrittenShard(path))
        return self._file


def scan_tar(path: Path) -> WrittenShard:
    """Find the samples in a tar written by :class:`ShardWriter`.

    Raises:
        DataError: not such a tar.
    """
    shard = WrittenShard(path)
    data = path.read_bytes()
    starts: list[int] = []
    for name, start, _ in walk(data):
        key, _, suffix = name.partition(".")
        if suffix == "json":
            shard.keys.append(key)
            starts.append(start)
        else:
            shard.num_images += 1
    ends = [*starts[1:], end_of(data)]
    view = memoryview(data)
    for start, end in zip(starts, ends, strict=True):
        shard.offsets.append(start)
        shard.sizes.append(end - start)
        shard.checksums.append(zlib.crc32(view[start:end]))
    return shard


def read_samples(shard: WrittenShard, *, with_images: bool = False) -> Iterator[Sample]:
    """Read back a tar from its start."""
    with shard.path.open("rb") as file:
        for offset, size in zip(shard.offsets, shard.sizes, strict=True):
            yield parse_sample(os.pread(file.fileno(), size, offset), with_images=with_images)


def write_index(
    shard: WrittenShard, tokenizer: TextTokenizer, tar: BlobRef | None = None, path: Path | None = None
) -> tuple[Path, int]:
    """Count the tokens of a tar's samples and write its index.

    Args:
        shard: the tar.
        tokenizer: the tokenizer for counting tokens.
        tar: the tar's digest and size, if already known.
        path: path of the index; next to the tar by default.

    Returns:
        The index file, and the number of text tokens in the shard (including end-of-document tokens).
    """
    parts: list[list[int]] = []
    labels: list[int] = []
    hashes: list[int] = []
    sizes: list[list[int]] = []
    for samples in _batches(shard, hashes, sizes):
        counts = _count_tokens(samples, tokenizer)
        labels += map(_count_labels, samples, counts)
        parts += counts
    num_text_tokens = [1 + sum(count for count in counts if count != IMAGE_PLACE) for counts in parts]
    table = pa.table(
        {
            "key": shard.keys,
            "offset": shard.offsets,
            "size": shard.sizes,
            "crc32": shard.checksums,
            "num_images": [counts.count(IMAGE_PLACE) for counts in parts],
            "num_text_tokens": num_text_tokens,
            "parts": parts,
            "num_label_tokens": labels,
            "content_hash": hashes,
            "image_sizes": sizes,
        },
        schema=SCHEMA,
    )
    tar = tar or digest_of_file(shard.path)
    table = table.replace_schema_metadata({TAR_SHA256: tar.sha256.encode()})
    path = path or shard.path.with_suffix(".index.parquet")
    pq.write_table(table, path, compression="zstd")
    return path, sum(num_text_tokens)


def _batches(shard: WrittenShard, hashes: list[int], sizes: list[list[int]]) -> Iterator[list[Sample]]:
    """Yield the samples in batches for the tokenizer, without images; append the hashes of content and the images' sizes."""
    waiting: list[Sample] = []
    for sample in read_samples(shard, with_images=True):
        hashes.append(content_hash(sample))
        sizes.append([length for size in image_sizes(sample) for length in size])
        sample.images = []
        waiting.append(sample)
        if len(waiting) == TOKENIZER_BATCH:
            yield waiting
            waiting = []
    yield waiting


def content_hash(sample: Sample) -> int:
    """Compute a 64-bit hash of a sample's encoded images in order, or of its texts if it has no images.

    Captions and conversations about the same images have the same hash; key and metadata do not count.
    """
    digest = blake2b(digest_size=8)
    for content in sample.images or [text.encode() for text in sample.texts()]:
        digest.update(b"%d " % len(content))
        digest.update(content)
    return int.from_bytes(digest.digest(), "little")


def image_sizes(sample: Sample) -> list[tuple[int, int]]:
    """Return width and height of the image of each image part, in pixels."""
    sizes = [*map(size_of, sample.images)]
    return [sizes[part.image] for part in sample.parts if isinstance(part, ImagePart)]


def _count_labels(sample: Sample, counts: list[int]) -> int:
    """Count the tokens with loss, including the end-of-document token."""
    return 1 + sum(count for part, count in zip(sample.parts, counts, strict=True) if isinstance(part, TextPart) and part.loss)


def _count_tokens(samples: list[Sample], tokenizer: TextTokenizer) -> list[list[int]]:
    counts = iter(map(len, tokenizer.encode([text for sample in samples for text in sample.texts()])))
    return [[IMAGE_PLACE if isinstance(part, ImagePart) else next(counts) for part in sample.parts] for sample in samples]
