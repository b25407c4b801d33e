"""Reading of MM1 shards: a tar's index, and random access to its samples (:mod:`mm1.data.shards` describes the format)."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.blocks import TarBytes
from mm1.data.sample import Sample
from mm1.data.tar import members
from mm1.errors import DataError
from mm1.store.base import BlobRef

TAR_SHA256 = b"mm1.tar.sha256"
"""Metadata key of an index that identifies its tar."""
NUMBERS = ("offset", "size", "crc32", "num_images", "num_text_tokens")
LABELS = "num_label_tokens"


class ShardIndex:
    """A shard's index: numeric columns are in memory as arrays; keys and parts are read on demand."""

    def __init__(self, path: Path, name: str, tar: BlobRef | None = None) -> None:
        """Read an index.

        Args:
            path: the parquet file.
            name: the shard's name, for messages.
            tar: the expected tar.

        Raises:
            DataError: the file is damaged, lacks a column, or belongs to another tar.
        """
        self.name = name
        self._path = path
        table = self._read([*NUMBERS], LABELS)
        columns = {column: np.asarray(table[column].to_numpy()) for column in NUMBERS}
        self.offset, self.size, self.crc32 = columns["offset"], columns["size"], columns["crc32"]
        self.num_images, self.num_text_tokens = columns["num_images"], columns["num_text_tokens"]
        self.num_label_tokens = np.asarray(table[LABELS].to_numpy()) if LABELS in table.column_names else None
        """Text tokens with loss of each sample; None if the shard was written before they were counted."""
        if tar is not None:
            self._check(tar, table.schema.metadata or {})

    def __len__(self) -> int:
        return len(self.offset)

    def key(self, row: int) -> str:
        """Return a sample's key."""
        return str(self._words["key"][row].as_py())

    def parts(self, row: int) -> list[int]:
        """Return the number of tokens of each text part of a sample, -1 for an image."""
        return list(self._words["parts"][row].as_py())

    def content_hashes(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Read the hash of each sample's content (samples,).

        Raises:
            DataError: the shard was written before they were computed.
        """
        table = self._read([], "content_hash")
        if not table.column_names:
            raise DataError(
                f"the index of shard {self.name} has no content hashes, because an earlier version wrote it: ingest the data "
                "again, or hold out nothing (holdout=)"
            )
        return np.asarray(table["content_hash"].to_numpy())

    @cached_property
    def image_sizes(self) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
        """Width and height of each image (images, 2) in pixels, and the number of the first image of each sample (samples,).

        Raises:
            DataError: the shard was written before they were stored.
        """
        table = self._read([], "image_sizes")
        if not table.column_names:
            raise DataError(
                f"the index of shard {self.name} has no sizes of images, because an earlier version wrote it: ingest the data "
                "again, or do not divide images into tiles (image_layout=single)"
            )
        lengths = table["image_sizes"].combine_chunks()
        sizes = np.asarray(lengths.flatten().to_numpy()).astype(np.int64).reshape(-1, 2)
        return sizes, np.asarray(lengths.offsets.to_numpy())[:-1].astype(np.int64) // 2

    @cached_property
    def _words(self) -> Any:
        return self._read(["key", "parts"])

    def _read(self, columns: list[str], optional: str = "") -> Any:
        """Read columns, and an optional one if the file has it."""
        try:
            with pq.ParquetFile(self._path) as file:
                names = [*columns, *(name for name in file.schema_arrow.names if name == optional)]
                return file.read(columns=names).select(names)
        except (pa.ArrowException, KeyError, OSError) as error:
            why = str(error).splitlines()[0]
            raise DataError(f"cannot read the index of shard {self.name} ({why}): recreate the shard with ingest") from None

    def _check(self, tar: BlobRef, metadata: dict[bytes, bytes]) -> None:
        if metadata.get(TAR_SHA256, tar.sha256.encode()) != tar.sha256.encode():
            raise DataError(f"the index of shard {self.name} belongs to another tar: recreate the shard with ingest")
        if len(self) and int((self.offset + self.size).max()) > tar.num_bytes:
            raise DataError(f"the index of shard {self.name} extends beyond its tar: recreate the shard with ingest")


class ShardReader:
    """Random access to the samples of one shard.

    Args:
        name: the shard's name, for messages.
        tar: access to the tar's bytes.
        index: the tar's index.
    """

    def __init__(self, name: str, tar: TarBytes, index: ShardIndex) -> None:
        self.name = name
        self.index = index
        self._tar = tar

    def read(self, row: int, *, with_images: bool = True) -> Sample:
        """Read a sample.

        Raises:
            DataError: the tar and its index do not match.
        """
        offset, size = int(self.index.offset[row]), int(self.index.size[row])
        try:
            try:
                return self._parse(row, offset, size, with_images)
            except DataError:
                if not self._tar.discard(offset, size):
                    raise
                return self._parse(row, offset, size, with_images)
        except DataError as error:
            raise DataError(f"shard {self.name}, row {row} ({self.index.key(row)}): {error}") from None

    def prefetch(self, row: int) -> None:
        """Prefetch a sample."""
        self._tar.prefetch(int(self.index.offset[row]), int(self.index.size[row]))

    def close(self) -> None:
        """Close the tar."""
        self._tar.close()

    def _parse(self, row: int, offset: int, size: int, with_images: bool) -> Sample:
        data = self._tar.read(offset, size)
        if len(data) != size:
            raise DataError("the tar ends before this sample")
        if zlib.crc32(data) != int(self.index.crc32[row]):
            raise DataError("checksum mismatch: the tar is damaged or does not match its index")
        return parse_sample(data, with_images=with_images)


def parse_sample(data: bytes, *, with_images: bool = True) -> Sample:
    """Parse a sample from the bytes of its tar members.

    Raises:
        DataError: malformed members.
    """
    files = members(data)
    name, text = next(files, ("", b""))
    key, dot, suffix = name.partition(".")
    if not dot or suffix != "json":
        raise DataError(f"expected the JSON of a sample, got {name!r}")
    if not with_images:
        return Sample.from_json(key, text)
    return Sample.from_json(key, text, [content for _, content in files])
