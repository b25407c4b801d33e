"""Signatures of samples: a small record per sample that suffices for finding duplicates.

One row per sample: digest of images and texts together, digest and difference hash of each image, MinHash of the text and its
LSH bands. Written by the mapper of each part (parquet), joined over all parts by :mod:`mm1.data.prepare.duplicates`.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.config import NearDuplicates
from mm1.data.prepare.filters import Kept
from mm1.data.prepare.words import ENGLISH_SHARE, stop_word_share
from mm1.data.sample import ImagePart

PERMUTATIONS = 128
"""Number of hash functions in a MinHash: a standard error of 4 % at a similarity of 0.8."""
SCHEME = "affine32"
"""The scheme of datasketch with 32-bit hash values."""
SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("row", pa.int32()),
        ("origin", pa.string()),
        ("exact", pa.binary(16)),
        ("images", pa.list_(pa.binary(16))),
        ("hashes", pa.list_(pa.uint64())),
        ("bands", pa.list_(pa.uint64())),
        ("minhash", pa.binary()),
        ("words", pa.int32()),
        ("sides", pa.float64()),
        ("english", pa.bool_()),
    ]
)
"""``number``: of the part; ``row``: of the sample in it; ``sides``: sum of the images' mean sides (width and height)."""


class Signatures:
    """Collects the signatures of a part.

    Args:
        number: number of the part.
        near: settings for near duplicates; None = do not look for them.
    """

    def __init__(self, number: int, near: NearDuplicates | None) -> None:
        self.number = number
        self.near = near
        self._rows: list[dict[str, Any]] = []
        self._hasher = _Hasher(near) if near else None

    def add(self, kept: Kept) -> None:
        """Add a sample; its row is the number of samples added before."""
        words = [word for text in kept.sample.texts() for word in text.split()]
        bands, minhash = self._hasher(words) if self._hasher else ([], b"")
        self._rows.append(
            {
                "number": self.number,
                "row": len(self._rows),
                "origin": kept.sample.origin,
                "exact": exact_digest(kept),
                "images": kept.digests,
                "hashes": kept.hashes if self.near else [],
                "bands": bands,
                "minhash": minhash,
                "words": len(words),
                "sides": sum((width + height) / 2 for width, height in kept.sizes),
                "english": stop_word_share(words) >= ENGLISH_SHARE,
            }
        )

    def write(self, path: Path) -> Path:
        """Write the signatures as parquet; equal signatures give equal bytes."""
        pq.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA), path, compression="zstd")
        return path


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


class _Hasher:
    """MinHash of texts, and the LSH bands for finding similar texts."""

    def __init__(self, near: NearDuplicates) -> None:
        from datasketch import MinHash

        self.bands, self.rows = best_bands(near.similarity)
        self.shingle = near.shingle_words
        self._new = MinHash
        self._permutations = MinHash(PERMUTATIONS, scheme=SCHEME).permutations

    def __call__(self, words: list[str]) -> tuple[list[int], bytes]:
        if not words:
            return [], b""
        words = [word.lower() for word in words]
        count = max(1, len(words) - self.shingle + 1)
        shingles = {" ".join(words[start : start + self.shingle]).encode() for start in range(count)}
        minhash = self._new(PERMUTATIONS, permutations=self._permutations, scheme=SCHEME)
        minhash.update_batch(sorted(shingles))
        values = np.asarray(minhash.hashvalues, np.uint32)
        bands = values[: self.bands * self.rows].reshape(self.bands, self.rows)
        digests = [blake2b(bytes([number]) + band.tobytes(), digest_size=8).digest() for number, band in enumerate(bands)]
        return [int.from_bytes(digest, "little") for digest in digests], values.tobytes()
