"""Compressed files: recognised by their first bytes, whatever their name is, and read as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
"""First bytes -> compression; zstd files may also begin with a skippable frame."""
SUFFIXES = {"gz": "gzip", "bz2": "bzip2", "zst": "zstd", "zstd": "zstd", "xz": "xz"}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""Exceptions of the decompressors on damaged or truncated files."""
ZSTD_WINDOW = 1 << 31
"""Maximum zstd window (``zstd --long=31``)."""
_CHUNK = 1 << 17
_ZSTD_INPUT = 1 << 10
"""Bytes decompressed at once; zstd expands up to 32,768 times, so this limits the memory for its output to 32 MiB."""


def compression_of(head: bytes) -> str:
    """Return the compression of a file by its first bytes; empty if there is none."""
    if len(head) > 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file for reading, decompressed.

    Yields:
        The decompressed stream, and the file below it, whose position tells the progress.
    """
    with path.open("rb") as file:
        compression = compression_of(file.peek(16))
        yield _decompressed(file, compression), file


def decompress_head(data: bytes, size: int) -> bytes:
    """Decompress the first bytes of a file, as far as its own first bytes reach.

    Raises:
        One of DAMAGE: they do not reach the first decompressed byte.
    """
    stream = _decompressed(io.BytesIO(data), compression_of(data))
    content = b""
    try:
        while len(content) < size and (more := stream.read1(size - len(content))):  # type: ignore[attr-defined]
            content += more
    except DAMAGE:
        if not content:
            raise
    return content


def _decompressed(file: BinaryIO, compression: str) -> BinaryIO:
    if compression == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if compression == "bzip2":
        return cast("BinaryIO", bz2.BZ2File(file))
    if compression == "xz":
        return cast("BinaryIO", lzma.LZMAFile(file))
    return cast("BinaryIO", io.BufferedReader(_ZstdFile(file), _CHUNK)) if compression == "zstd" else file


class _ZstdFile(io.RawIOBase):
    """All frames of a zstd file, with windows up to the format's limit.

    The library's own reader takes a truncated file for a complete one; this one raises EOFError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._context = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._compressed = b""
        self._data = memoryview(b"")

    def readable(self) -> bool:
        """Tell that the file can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read up to the size of a buffer; 0 at the end of the last frame."""
        out = memoryview(buffer)  # type: ignore[arg-type]
        while not self._data:
            if not self._fill():
                return 0
        size = min(len(out), len(self._data))
        out[:size] = self._data[:size]
        self._data = self._data[size:]
        return size

    def _fill(self) -> bool:
        """Decompress some more bytes; False at the end of the file."""
        if not self._compressed:
            self._compressed = self._file.read(_CHUNK)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError("compressed file ended before the end of its last frame")
                return False
        if self._frame is None:
            self._frame = self._context.decompressobj()
        piece, self._compressed = self._compressed[:_ZSTD_INPUT], self._compressed[_ZSTD_INPUT:]
        self._data = memoryview(self._frame.decompress(piece))
        if self._frame.eof:
            self._compressed = self._frame.unused_data + self._compressed
            self._frame = None
        return True
