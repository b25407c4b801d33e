"""The endless order of a source's samples: epochs, windows of shards, shuffled rows.

Each epoch shuffles the shards, cuts that order into windows of neighbouring shards, and shuffles the samples within a window.
So an epoch gives every sample exactly once, any window can be worked out alone, and reading touches only a few shards at
a time, however large the source is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

WINDOW_SAMPLES = 16_384
"""Samples that a window holds at least (an epoch's remainder goes to its last window)."""

Rows = tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]


class SampleOrder:
    """Order of one source.

    Args:
        name: the source's name; sources of one mixture are shuffled independently.
        num_samples: samples of each shard.
        seed: the mixture's order seed.
        window_samples: samples of a window at least.
    """

    def __init__(self, name: str, num_samples: Sequence[int], seed: int, window_samples: int = WINDOW_SAMPLES) -> None:
        self.num_samples = tuple(num_samples)
        self.window_samples = window_samples
        self._entropy = (seed, crc32(name.encode()))
        self._windows = lru_cache(maxsize=2)(self._cut)

    def num_windows(self, epoch: int) -> int:
        """Windows of an epoch."""
        return len(self._windows(epoch))

    def rows(self, epoch: int, window: int) -> Rows:
        """Samples of a window in their order.

        Returns:
            Shard numbers and row numbers (samples,).
        """
        shards = self._windows(epoch)[window]
        shard_of = np.repeat(np.asarray(shards), [self.num_samples[shard] for shard in shards])
        row_of = np.concatenate([np.arange(self.num_samples[shard]) for shard in shards])
        permutation = self._random(epoch, 1 + window).permutation(len(shard_of))
        return shard_of[permutation], row_of[permutation]

    def _cut(self, epoch: int) -> list[list[int]]:
        windows: list[list[int]] = []
        sizes: list[int] = []
        for shard in self._random(epoch, 0).permutation(len(self.num_samples)).tolist():
            if not windows or sizes[-1] >= self.window_samples:
                windows.append([])
                sizes.append(0)
            windows[-1].append(shard)
            sizes[-1] += self.num_samples[shard]
        if len(windows) > 1 and sizes[-1] < self.window_samples:
            remainder = windows.pop()
            windows[-1] += remainder
        return windows

    def _random(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([*self._entropy, epoch, purpose]))
