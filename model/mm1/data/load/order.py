"""The endless order of a source's samples: epochs, windows of shards, shuffled rows.

Each epoch shuffles the shards, splits them into windows of adjacent shards, and shuffles the samples within each window.
An epoch therefore visits every sample exactly once, any window can be computed on its own, and reading touches only a few
shards at a time, however large the source is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

from mm1.data.load.mixture import Mixture

WINDOW_SAMPLES = 16_384
"""Minimum number of samples in a window (the remainder of an epoch is added to its last window)."""

Members = np.ndarray[tuple[int], np.dtype[np.int64]]
Rows = tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]


class SampleOrder:
    """Sample order of one source.

    Args:
        name: the source's name; sources of one mixture are shuffled independently.
        num_samples: samples per shard.
        seed: the mixture's order seed.
        window_samples: minimum number of samples in a window.
        members: row numbers of these samples in each shard, for shards with other samples, too; None = all rows.
    """

    def __init__(
        self,
        name: str,
        num_samples: Sequence[int],
        seed: int,
        window_samples: int = WINDOW_SAMPLES,
        *,
        members: Sequence[Members] | None = None,
    ) -> None:
        self.num_samples = tuple(num_samples)
        self.members = members
        self.window_samples = window_samples
        self._entropy = (seed, crc32(name.encode()))
        self._windows = lru_cache(maxsize=2)(self._cut)

    def num_windows(self, epoch: int) -> int:
        """Return the number of windows in an epoch."""
        return len(self._windows(epoch))

    def rows(self, epoch: int, window: int) -> Rows:
        """List the samples of a window, in order.

        Returns:
            Shard indices and row indices (samples,).
        """
        shards = self._windows(epoch)[window]
        shard_of = np.repeat(np.asarray(shards), [self.num_samples[shard] for shard in shards])
        row_of = np.concatenate([self._members(shard) for shard in shards])
        permutation = self._random(epoch, 1 + window).permutation(len(shard_of))
        return shard_of[permutation], row_of[permutation]

    def take(self, start: int, count: int) -> Rows:
        """Take consecutive samples of the endless order.

        Args:
            start: index of the first sample; an epoch has ``sum(num_samples)``.
            count: number of samples.

        Returns:
            Shard indices and row indices (count,).
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

    def _members(self, shard: int) -> Members:
        return np.arange(self.num_samples[shard]) if self.members is None else self.members[shard]

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
    """Interleaved samples of several sources: the order of a single stream whose sequences mix sources.

    Args:
        orders: orders of the sources; shards are numbered consecutively over the sources.
        mixture: source of the i-th sample.
        window_samples: samples per window.
    """

    def __init__(self, orders: Sequence[SampleOrder], mixture: Mixture, window_samples: int = WINDOW_SAMPLES) -> None:
        self.orders = list(orders)
        self.mixture = mixture
        self.window_samples = window_samples
        self._first_shard = np.cumsum([0, *(len(order.num_samples) for order in self.orders)])

    def num_windows(self, epoch: int) -> int:
        """Return the number of windows in an epoch: sources repeat independently, so there is a single endless epoch."""
        return sys.maxsize

    def rows(self, epoch: int, window: int) -> Rows:
        """List the samples of a window, in order; see :meth:`SampleOrder.rows`."""
        start = window * self.window_samples
        before = self.mixture.counts(start)
        sources = np.fromiter((self.mixture.locate(start + position)[0] for position in range(self.window_samples)), np.int64)
        shards, rows = np.empty(len(sources), np.int64), np.empty(len(sources), np.int64)
        for source, order in enumerate(self.orders):
            mask = sources == source
            found_shards, found_rows = order.take(before[source], int(mask.sum()))
            shards[mask], rows[mask] = found_shards + self._first_shard[source], found_rows
        return shards, rows
