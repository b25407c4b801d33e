"""Held-out samples: a frozen slice of each source that no sequence of a mixture contains.

    captions=0.001, text=500 -> share of each source -> samples whose content hash is below it are held out

The choice is a threshold on a hash of a sample's images (of its texts, if it has none). It does not depend on other samples,
files, shards, the tokenizer, weights or seeds. With the same share, a sample that was held out stays held out when data
arrives, and one that was trained on is never held out; with a larger share, the earlier held-out samples are among the new
ones. Every mixture of the same data makes the same choice.

Ingest has removed exact duplicates from each source. Samples with the same images are held out together: several captions or
conversations, and, with the same share, those of other sources. Rewritten captions have the share of the captions unless they
are named. The hash is that of the stored bytes, so a version of ingest that encodes images differently chooses anew.

A number of samples is converted to the share that holds out that number now. The mixture freezes the share, and its summary
shows it: give the share, not the number, to mixtures of the same source after it has grown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mm1.config.values import parse_number
from mm1.data.load.mixture import CAPTIONS, SYNTHETIC
from mm1.data.reader import ShardIndex
from mm1.data.source_names import parent_of
from mm1.errors import ConfigurationError

BITS = 53
"""Bits of the hash that count: a float holds them exactly."""
ALL = ""
"""Stands for the sources that are not named."""
Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]
Rows = np.ndarray[tuple[int], np.dtype[np.int64]]


def parse_holdout(text: str) -> dict[str, float]:
    """Parse ``0.001`` (every source), ``captions=500,text=0.01``, or both.

    Returns:
        Source (or :data:`ALL`) -> share of its samples below 1, or number of samples from 1.

    Raises:
        ConfigurationError: malformed, or a duplicate name.
    """
    requests: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in item.rpartition("="))
        try:
            amount = parse_number(value)
        except ValueError:
            amount = -1.0
        if amount < 0 or (amount > 1 and amount != int(amount)) or ("=" in item and not name):
            raise ConfigurationError(
                f"holdout: expected a share from 0 to 1 or a number of samples, for example 0.001 or captions=500, got {item!r}"
            )
        if name in requests:
            raise ConfigurationError(f"holdout: duplicate {f'source {name!r}' if name else 'share of all sources'}")
        requests[name] = amount
    return requests


def request_of(requests: Mapping[str, float], name: str) -> tuple[str, float]:
    """Return the name and amount of the request that applies to a source or sub-source; 0 if there is none."""
    parent = parent_of(name)
    for key in (name, parent, CAPTIONS if parent == SYNTHETIC else parent, ALL):
        if key in requests:
            return key, requests[key]
    return ALL, 0.0


def is_held_out(hashes: Hashes, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which samples are held out (samples,), from the hashes of their content."""
    return (hashes >> np.uint64(64 - BITS)) < np.uint64(math.ceil(share * 2**BITS))


def held_out_rows(indexes: Iterable[ShardIndex], share: float) -> list[Rows]:
    """Return the rows of each shard that are held out."""
    return [np.flatnonzero(is_held_out(index.content_hashes(), share)) for index in indexes]


def trainable_rows(indexes: Sequence[ShardIndex], share: float) -> list[Rows]:
    """Return the rows of each shard that are not held out."""
    return [np.flatnonzero(~is_held_out(index.content_hashes(), share)) for index in indexes]


def share_for(count: int, hashes: Iterable[Hashes], name: str) -> float:
    """Return the share that holds out a number of samples: a short decimal, if possible.

    Args:
        count: number of samples, at least 1; more are held out if the last one has the images of others.
        hashes: hashes of the content, for each shard.
        name: the source, for the message.

    Raises:
        ConfigurationError: the source has no more samples than that.
    """
    lowest: np.ndarray[Any, np.dtype[np.uint64]] = np.empty(0, np.uint64)
    num_samples = 0
    for shard in hashes:
        num_samples += len(shard)
        lowest = np.sort(np.concatenate([lowest, shard >> np.uint64(64 - BITS)]))[: count + 1]
    if num_samples <= count:
        raise ConfigurationError(f"holdout: {name} has {num_samples:,} samples, expected more than the {count:,} to hold out")
    last, after = int(lowest[count - 1]), int(lowest[count])
    for digits in range(1, 16):
        share = round((last * 10**digits // 2**BITS + 1) / 10**digits, digits)
        if last < math.ceil(share * 2**BITS) <= after:
            return share
    return (last + 1) / 2**BITS
