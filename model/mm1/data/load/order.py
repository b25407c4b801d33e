"""The endless order of a source's samples: epochs, windows of shards, shuffled rows.

Each epoch shuffles the shards, cuts that order into windows of neighbouring shards, and shuffles the samples within a window.
So an epoch gives every sample exactly once, any window can be worked out alone, and reading touches only a few shards at
a time, however large the source is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

from mm1.data.load.mixture import Mixture

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

    def take(self, start: int, count: int) -> Rows:
        """Some samples of the endless order.

        Args:
            start: number of the first one; an epoch has ``sum(num_samples)``.
            count: how many.

        Returns:
            Shard numbers and row numbers (count,).
        """
        shards, rows = [], []
        epoch, skip = divmod(start, sum(self.num_samples))
        while count:
            for window in range(self.num_windows(epoch)):
                size = sum(self.num_samples[shard] for shard in self._windows(epoch)[window])
                if skip >= size:
                    skip -= size
                    continue
                window_shards, window_rows = self.rows(epoch, window)
                shards.append(window_shards[skip : skip + count])
                rows.append(window_rows[skip : skip + count])
                count -= len(shards[-1])
                skip = 0
                if not count:
                    break
            epoch += 1
        none = np.empty(0, np.int64)
        return np.concatenate([none, *shards]), np.concatenate([none, *rows])

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


class MixedOrder:
    """Samples of several sources, taken in turn: the order of one stream whose sequences hold documents of any source.

    Args:
        orders: of the sources; their shards are numbered one source after the other.
        mixture: which source the i-th sample is of.
        window_samples: samples of a window.
    """

    def __init__(self, orders: Sequence[SampleOrder], mixture: Mixture, window_samples: int = WINDOW_SAMPLES) -> None:
        self.orders = list(orders)
        self.mixture = mixture
        self.window_samples = window_samples
        self._first_shard = np.cumsum([0, *(len(order.num_samples) for order in self.orders)])

    def num_windows(self, epoch: int) -> int:
        """Windows of an epoch: sources are repeated each for itself, so there is one epoch without end."""
        return sys.maxsize

    def rows(self, epoch: int, window: int) -> Rows:
        """Samples of a window in their order; see :meth:`SampleOrder.rows`."""
        start = window * self.window_samples
        before = self.mixture.counts(start)
        sources = np.fromiter((self.mixture.locate(start + place)[0] for place in range(self.window_samples)), np.int64)
        shards, rows = np.empty(len(sources), np.int64), np.empty(len(sources), np.int64)
        for source, order in enumerate(self.orders):
            here = sources == source
            found_shards, found_rows = order.take(before[source], int(here.sum()))
            shards[here], rows[here] = found_shards + self._first_shard[source], found_rows
        return shards, rows
