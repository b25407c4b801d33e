"""The held-out samples of a mixture, for validation losses and evaluation.

    DataMix, source -> its held-out samples, each once -> samples, or batches for the ranks of a trainer

The order is fixed, and the sequences are packed as those of training.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from mm1.config.resolve import suggest
from mm1.data.load.collate import Batch, BatchShape, Collator, as_batch
from mm1.data.load.loader import MicroBatches
from mm1.data.load.open_mix import CACHE_BYTES, OpenMix, open_shards, shards_of, source_stream
from mm1.data.load.sequences import MixturePlan, SampleSpan, SourceStream
from mm1.data.sample import Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix, RawData, load_digest
from mm1.store.base import Store

log = logging.getLogger(__name__)


class HeldOut:
    """The held-out samples of one source.

    Attributes:
        rows: the held-out rows of each shard.
    """

    def __init__(self, opened: OpenMix, source: int, stream: SourceStream) -> None:
        self.opened = opened
        self.source = source
        self.rows = stream.members or []
        self._stream = stream

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._stream.num_samples

    def samples(self) -> Iterator[Sample]:
        """Read the samples with their images, in the order of the shards.

        Raises:
            DataError: a sample is damaged.
        """
        for shard, rows in enumerate(self.rows):
            for row in rows.tolist():
                yield self.opened.read(self.source, shard, row)

    @cached_property
    def sequences(self) -> list[list[SampleSpan]]:
        """Packed sequences that contain each sample once (documents that are too long are cut or dropped, as in training)."""
        return list(self._stream.first_epoch())

    def batches(self, micro_batch: int, rank: int = 0, world_size: int = 1, limit: int = sys.maxsize) -> Iterator[Batch]:
        """Yield the micro-batches of a rank, with the arrays of :func:`mm1.data.load.collate.as_batch`.

        Every rank gets the same number of micro-batches of the same size; missing sequences are padding without loss.

        Args:
            micro_batch: sequences per micro-batch.
            rank: rank of this process.
            world_size: number of processes.
            limit: maximum number of sequences over all processes: the first ones.
        """
        mix = self.opened.mix
        collator = Collator.of_mixture(mix, self.opened.tokenizer, keep=False)
        shape = BatchShape(micro_batch, mix.sequence_length, mix.max_images, mix.image_size_px)
        prepare = MicroBatches(self.opened, collator, shape)
        sequences = list(self._stream.first_epoch(limit))
        for first in range(0, len(sequences), micro_batch * world_size):
            start = first + rank * micro_batch
            chosen = sequences[start : start + micro_batch]
            padded = [*chosen, *([] for _ in range(micro_batch - len(chosen)))]
            slot = np.empty(shape.num_bytes, np.uint8)
            prepared = prepare([(self.source, [tuple(span) for span in spans]) for spans in padded], slot)
            for message in prepared.damaged:
                log.warning("skipped: %s", message)
            yield as_batch(shape.arrays(slot), prepared.num_images)


def open_holdout(store: Store, mix: DataMix, source: str, cache_bytes: int = CACHE_BYTES) -> HeldOut:
    """Open the held-out samples of a source.

    Args:
        store: the store with the mixture's RawData, its shards and the tokenizer.
        mix: the mixture.
        source: name of a source of the mixture.
        cache_bytes: maximum size of the local cache, for stores in a bucket.

    Raises:
        ConfigurationError: an unknown source, or none of its samples is held out.
        DataError: the RawData or an index cannot be read.
    """
    names = [item.name for item in mix.sources]
    if source not in names:
        raise ConfigurationError(f"the mixture has no source {source!r}; {suggest(source, names)}")
    number = names.index(source)
    if not mix.sources[number].num_held_out:
        raise ConfigurationError(f"the mixture holds out no sample of {source}: create it with holdout={source}=0.001 or more")
    raw = load_digest(store, mix.raw)
    if not isinstance(raw, RawData):
        raise DataError(f"the mixture's parent {mix.raw[:12]} is not RawData")
    readers = open_shards(store, shards_of(store, raw, mix.sources[number]), cache_bytes)
    stream = source_stream(mix, number, [reader.index for reader in readers], held_out=True)
    tokenizer = TextTokenizer.from_store(store, mix.tokenizer)
    opened = OpenMix(mix, MixturePlan(None, [stream]), tokenizer, {number: readers}, store.is_local)
    return HeldOut(opened, number, stream)
