"""Reading MM1 shards: the index of a tar, and random access to its samples (:mod:`mm1.data.shards` describes the format)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.sample import Sample
from mm1.data.tar import members
from mm1.errors import DataError


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
            columns = {column: self._column(column) for column in ("offset", "size", "crc32", "num_images", "num_text_tokens")}
        except (pa.ArrowException, KeyError, OSError) as error:
            raise DataError(f"the index of shard {name} cannot be read ({error}): make the shard again with ingest") from None
        self.name = name
        self.offset, self.size, self.crc32 = columns["offset"], columns["size"], columns["crc32"]
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
            if zlib.crc32(data) != int(self.index.crc32[row]):
                raise DataError("its bytes do not match their checksum")
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
    found = members(data)
    name, text = next(found, ("", b""))
    if name != f"{key}.json":
        raise DataError(f"the index does not match its tar: {name!r} stands where {key}.json should")
    if not with_images:
        return Sample.from_json(key, text)
    return Sample.from_json(key, text, [content for _, content in found])
