"""MM1 shards: ordinary webdataset tars, each with an index (parquet) for random access.

    samples -> ShardWriter -> captions-00000.tar, ... -> write_index (counts tokens) -> captions-00000.index.parquet

A tar holds, sample by sample, ``<key>.json`` and then its images; stock webdataset reads it. Equal samples give equal bytes:
sorted JSON keys, times and owners zero, fixed modes. The index has a row per sample:

=================  ===========  ===============================================================================
key                string
offset             int64        bytes from the tar's start to the sample's first header
size               int64        bytes of all its members with their headers and padding
num_images         int32
num_text_tokens    int32        with the end-of-document token, without image tokens
parts              list<int32>  tokens of each text part, -1 for an image; what long documents are cut by
=================  ===========  ===============================================================================
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.config import ShardLimits
from mm1.data.images import extension_of
from mm1.data.packing import IMAGE_PLACE
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError

BLOCK = tarfile.BLOCKSIZE
NAME, SIZE, CHECKSUM, MAGIC = slice(0, 100), slice(124, 136), slice(148, 156), slice(257, 262)
"""Fields of a tar header (ustar)."""
TOKENIZED_AT_ONCE = 2_000
"""Samples whose texts are tokenised in one call."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("num_images", pa.int32()),
        ("num_text_tokens", pa.int32()),
        ("parts", pa.list_(pa.int32())),
    ]
)


@dataclass
class WrittenShard:
    """A tar that was written and not indexed yet."""

    path: Path
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    num_images: int = 0


class ShardWriter:
    """Writes samples into numbered tars of limited size; a context manager.

    Args:
        folder: where the tars go.
        prefix: beginning of their names, for example the source's name.
        limits: when a new tar is begun.
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
        start = file.tell()
        _write_member(file, f"{sample.key}.json", sample.to_json())
        for index, image in enumerate(sample.images):
            _write_member(file, f"{sample.key}.{index}.{extension_of(image)}", image)
        shard.keys.append(sample.key)
        shard.offsets.append(start)
        shard.sizes.append(file.tell() - start)
        shard.num_images += len(sample.images)

    def close(self) -> None:
        """End the tar that is open."""
        if self._file is not None:
            end = self._file.tell() + 2 * BLOCK
            self._file.write(bytes(2 * BLOCK + -end % tarfile.RECORDSIZE))
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


def _write_member(file: BinaryIO, name: str, data: bytes) -> None:
    file.write(_header(name, len(data)))
    file.write(data)
    file.write(bytes(-len(data) % BLOCK))


def _template() -> bytes:
    """Tarfile's header of an empty file, its checksum field blank."""
    header = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
    header[CHECKSUM] = b" " * 8
    return bytes(header)


def _header(name: str, size: int) -> bytes:
    # tarfile's own header with the three fields that differ: making it anew costs 25 microseconds a member, which is
    # more than all else that a small image costs here.
    header = bytearray(TEMPLATE)
    encoded = name.encode()
    if len(encoded) >= NAME.stop:
        raise DataError(f"{name}: the name is too long for a tar")
    header[: len(encoded)] = encoded
    header[SIZE] = b"%011o\0" % size
    header[CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


TEMPLATE = _template()


def read_samples(shard: WrittenShard, *, with_images: bool = False) -> Iterator[Sample]:
    """Read a written tar again from its start."""
    with shard.path.open("rb") as file:
        for key, offset, size in zip(shard.keys, shard.offsets, shard.sizes, strict=True):
            yield parse_sample(key, os.pread(file.fileno(), size, offset), with_images=with_images)


def write_index(shard: WrittenShard, tokenizer: TextTokenizer) -> tuple[Path, int]:
    """Count the tokens of a tar's samples and write its index beside it.

    Returns:
        The index file, and the number of text tokens in the shard (with the end-of-document tokens).
    """
    parts: list[list[int]] = []
    waiting: list[Sample] = []
    for sample in read_samples(shard):
        waiting.append(sample)
        if len(waiting) == TOKENIZED_AT_ONCE:
            parts += _count_tokens(waiting, tokenizer)
            waiting = []
    parts += _count_tokens(waiting, tokenizer)
    num_text_tokens = [1 + sum(count for count in counts if count != IMAGE_PLACE) for counts in parts]
    table = pa.table(
        {
            "key": shard.keys,
            "offset": shard.offsets,
            "size": shard.sizes,
            "num_images": [counts.count(IMAGE_PLACE) for counts in parts],
            "num_text_tokens": num_text_tokens,
            "parts": parts,
        },
        schema=SCHEMA,
    )
    path = shard.path.with_suffix(".index.parquet")
    pq.write_table(table, path, compression="zstd")
    return path, sum(num_text_tokens)


def _count_tokens(samples: list[Sample], tokenizer: TextTokenizer) -> list[list[int]]:
    counts = iter(map(len, tokenizer.encode([text for sample in samples for text in sample.texts()])))
    return [[IMAGE_PLACE if isinstance(part, ImagePart) else next(counts) for part in sample.parts] for sample in samples]


class ShardIndex:
    """A shard's index in memory: one array per column."""

    def __init__(self, path: Path, name: str) -> None:
        """Read an index.

        Args:
            path: the parquet file.
            name: the shard's name, for messages.

        Raises:
            DataError: the file is damaged or lacks a column.
        """
        try:
            self._table = pq.read_table(path)
            columns = {column: self._column(column) for column in ("offset", "size", "num_images", "num_text_tokens")}
        except (pa.ArrowException, KeyError, OSError) as error:
            raise DataError(f"the index of shard {name} cannot be read ({error}): make the shard again with ingest") from None
        self.name = name
        self.offset, self.size = columns["offset"], columns["size"]
        self.num_images, self.num_text_tokens = columns["num_images"], columns["num_text_tokens"]

    def __len__(self) -> int:
        return len(self.offset)

    def key(self, row: int) -> str:
        """A sample's key."""
        return str(self._table["key"][row].as_py())

    def parts(self, row: int) -> list[int]:
        """Tokens of each text part of a sample, -1 for an image."""
        return list(self._table["parts"][row].as_py())

    def _column(self, name: str) -> np.ndarray[Any, Any]:
        return np.asarray(self._table[name].to_numpy())


class ShardReader:
    """Random access to the samples of one shard.

    Args:
        name: the shard's name, for messages.
        tar: gives the tar file; called when the first sample is wanted.
        index: its index.
    """

    def __init__(self, name: str, tar: Callable[[], Path], index: ShardIndex) -> None:
        self.name = name
        self.index = index
        self._tar = tar

    @cached_property
    def _file(self) -> BinaryIO:
        return self._tar().open("rb")

    def read(self, row: int, *, with_images: bool = True) -> Sample:
        """Read a sample.

        Raises:
            DataError: the tar does not hold it where the index says.
        """
        key, offset, size = self.index.key(row), int(self.index.offset[row]), int(self.index.size[row])
        try:
            data = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise DataError(f"shard {self.name}: {error.strerror}") from None
        try:
            if len(data) != size:
                raise DataError("the tar ends before it")
            return parse_sample(key, data, with_images=with_images)
        except DataError as error:
            raise DataError(f"shard {self.name}, row {row} ({key}): {error}") from None

    def close(self) -> None:
        """Close the tar."""
        if "_file" in self.__dict__:
            self._file.close()
            del self._file


def parse_sample(key: str, data: bytes, *, with_images: bool = True) -> Sample:
    """A sample from the bytes of its members.

    Raises:
        DataError: the bytes are not those members.
    """
    members = _members(data)
    name, text = next(members, ("", b""))
    if name != f"{key}.json":
        raise DataError(f"the index does not match its tar: {name!r} stands where {key}.json should")
    if not with_images:
        return Sample.from_json(key, text)
    return Sample.from_json(key, text, [content for _, content in members])


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    # The two fields that are needed, read by hand: tarfile takes 20 microseconds a header, which for small images is
    # a third of the loader's time. Checked against tarfile and webdataset in the tests.
    position = 0
    while position < len(data):
        header = data[position : position + BLOCK]
        size_field = header[SIZE].rstrip(b"\0 ")
        if header[MAGIC] != b"ustar" or not size_field.isdigit():
            raise DataError("not a tar header where the index says")
        name, size = header[NAME].rstrip(b"\0").decode("utf-8", "replace"), int(size_field, 8)
        position += BLOCK
        if position + size > len(data):
            raise DataError(f"{name} ends before its size")
        yield name, data[position : position + size]
        position += size + -size % BLOCK
