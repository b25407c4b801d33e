"""Signatures of samples: a small record per sample that suffices for finding duplicates.

One row per sample: digest of images and texts together, digest and thumbnail of each image, MinHash of the text and its
LSH bands. Written by the mapper of each part (parquet), joined over all parts by :mod:`mm1.data.prepare.duplicates`.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mm1.data.config import NearDuplicates
from mm1.data.prepare.filters import Kept
from mm1.data.prepare.words import ENGLISH_SHARE, Words, mix
from mm1.data.sample import ImagePart

PERMUTATIONS = 128
"""Number of hash functions in a MinHash: a standard error of 4 % at a similarity of 0.8."""
SCHEME = "affine32"
"""The scheme of datasketch with 32-bit hash values."""
ROW_GROUP = 10_000
"""Samples per row group; as many are in memory at a time."""
_BLOCK = 256
"""Shingles permuted at a time; the block fits into the cache of a core."""
_COLUMNS = [
    ("number", pa.int32()),
    ("row", pa.int32()),
    ("exact_high", pa.uint64()),
    ("exact_low", pa.uint64()),
    ("images", pa.list_(pa.uint64())),
    ("thumbnails", pa.binary()),
    ("minhash", pa.binary(PERMUTATIONS)),
    ("words", pa.int32()),
    ("sides", pa.float64()),
    ("english", pa.bool_()),
    ("other_language", pa.bool_()),
]


def schema(near: NearDuplicates | None) -> pa.Schema:
    """Return the columns.

    ``number``: of the part; ``row``: of the sample in it; ``exact_high``, ``exact_low``: digest of the sample; ``images``: 8
    bytes of each image's digest; ``thumbnails``: those of all images, 72 bytes each; ``minhash``: lowest byte of each
    of its values, null without words; ``band_<i>``: LSH bands;
    ``sides``: sum of the images' mean sides (width and height); ``other_language``: the language has no list of stop words.
    """
    bands = best_bands(near.similarity)[0] if near else 0
    return pa.schema([*_COLUMNS, *((f"band_{band}", pa.uint64()) for band in range(bands))])


class Signatures:
    """Writes the signatures of a part; equal signatures give equal bytes.

    Args:
        path: the parquet file to write.
        number: number of the part.
        near: settings for near duplicates; None = do not look for them.
    """

    def __init__(self, path: Path, number: int, near: NearDuplicates | None) -> None:
        self.path = path
        self.number = number
        self.near = near
        self._hasher = MinHasher(near) if near else None
        self._schema = schema(near)
        self._num_rows = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._columns["row"]:
            self._flush()
        self._writer.close()

    def add(self, kept: Kept) -> None:
        """Add a sample; its row is the number of samples added before."""
        words = kept.text.words
        english = words.stop_word_share >= ENGLISH_SHARE
        digest = exact_digest(kept)
        row: dict[str, Any] = {
            "number": self.number,
            "row": self._num_rows,
            "exact_high": int.from_bytes(digest[:8], "little"),
            "exact_low": int.from_bytes(digest[8:], "little"),
            "images": [int.from_bytes(image[:8], "little") for image in kept.digests],
            "thumbnails": b"".join(kept.thumbnails),
            "minhash": None,
            "words": len(words),
            "sides": sum((width + height) / 2 for width, height in kept.sizes),
            "english": english,
            "other_language": not english and kept.text.language is None,
        }
        if self._hasher:
            values = self._hasher(words)
            row["minhash"] = None if values is None else values.astype(np.uint8).tobytes()
            bands = [None] * self._hasher.bands if values is None else self._hasher.band_hashes(values)
            row.update((f"band_{number}", band) for number, band in enumerate(bands))
        for name, column in self._columns.items():
            column.append(row[name])
        self._num_rows += 1
        if self._num_rows % ROW_GROUP == 0:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.table(self._columns, schema=self._schema))
        for column in self._columns.values():
            column.clear()


def exact_digest(kept: Kept) -> bytes:
    """Compute the digest of images and texts together, in order: one image with two captions counts as two samples."""
    digest = blake2b(digest_size=16)
    for part in kept.sample.parts:
        digest.update(kept.digests[part.image] if isinstance(part, ImagePart) else part.text.encode())
        digest.update(b"\0")
    return digest.digest()


@cache
def best_bands(similarity: float) -> tuple[int, int]:
    """Choose the number of bands, and of MinHash values per band, for a target similarity (takes 0.25 s)."""
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    return int(lsh.b), int(lsh.r)


class MinHasher:
    """MinHash of texts, and the LSH bands for finding similar texts.

    The values are those of ``datasketch.MinHash`` for the hashes of the shingles.

    Args:
        near: settings for near duplicates.
    """

    def __init__(self, near: NearDuplicates) -> None:
        from datasketch import MinHash

        self.bands, self.rows = best_bands(near.similarity)
        self._shingle = near.shingle_words
        self._factors, self._offsets = MinHash(PERMUTATIONS, scheme=SCHEME).permutations
        factors = mix(np.arange(1, self.bands * self.rows + 1, dtype=np.uint64)) | np.uint64(1)
        self._band_factors = factors.reshape(self.bands, self.rows)

    def __call__(self, words: Words) -> NDArray[np.uint32] | None:
        """Return the MinHash of a text (permutations); None for a text without words."""
        return self.minimum(words.shingles(self._shingle)) if len(words) else None

    def minimum(self, hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the minimum of each permutation over the hashes of shingles."""
        hashes = _finalize(hashes)
        minima = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK, None] * self._factors + self._offsets
            np.minimum(minima, block.min(axis=0), out=minima)
        return minima

    def band_hashes(self, values: NDArray[np.uint32]) -> list[int]:
        """Return a hash for each band of a MinHash."""
        bands = values[: self.bands * self.rows].reshape(self.bands, self.rows).astype(np.uint64)
        hashes: list[int] = mix((bands * self._band_factors).sum(axis=1)).tolist()
        return hashes


def _finalize(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Apply the 32-bit finalizer of MurmurHash3, as datasketch does before its permutations."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> np.uint32(16))
