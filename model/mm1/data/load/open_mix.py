"""Opening a frozen mixture: from manifests to the plan, the shards and the tokenizer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from mm1.data.blocks import BlockCache, CachedBytes, FileBytes
from mm1.data.load.holdout import held_out_rows, trainable_rows
from mm1.data.load.image_tiles import ImageTiles
from mm1.data.load.mixture import Mixture
from mm1.data.load.order import Members, MixedOrder, SampleOrder
from mm1.data.load.packing import PackingLimits
from mm1.data.load.sequences import MixturePlan, SourceStream
from mm1.data.reader import ShardIndex, ShardReader
from mm1.data.sample import Sample
from mm1.data.source_names import named_shards, parent_of
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError
from mm1.manifests import DataMix, MixSource, RawData, Shard, digest_of_manifest
from mm1.store.base import Store

CACHE_BYTES = 20_000_000_000
MAX_OPEN_TARS = 64
"""Maximum number of open tars; a window of the order touches few."""


@dataclass
class OpenMix:
    """A mixture opened for reading."""

    mix: DataMix
    plan: MixturePlan
    tokenizer: TextTokenizer
    readers: dict[int, list[ShardReader]]
    """Source -> readers of its shards, in the plan's order."""
    is_local: bool
    """Whether the shards are on this machine, so that nothing needs to be prefetched."""
    _recent: OrderedDict[tuple[int, int], ShardReader] = field(default_factory=OrderedDict)

    def read(self, source: int, shard: int, row: int) -> Sample:
        """Read a sample with its images.

        Raises:
            DataError: the sample is damaged.
        """
        reader = self._recent[source, shard] = self.readers[source][shard]
        self._recent.move_to_end((source, shard))
        if len(self._recent) > MAX_OPEN_TARS:
            self._recent.popitem(last=False)[1].close()
        return reader.read(row)

    def prefetch(self, source: int, shard: int, row: int) -> None:
        """Prefetch a sample."""
        self.readers[source][shard].prefetch(row)

    def num_tokens(self, source: int, shard: int, row: int) -> int:
        """Return the number of tokens of a sample according to the index, including image tokens."""
        index = self.readers[source][shard].index
        return int(index.num_text_tokens[row]) + sum(tokens for tokens, _ in self.tiles.images(index, row))

    @cached_property
    def tiles(self) -> ImageTiles:
        """The division of its images."""
        return ImageTiles.of(self.mix)

    def decoded_bytes(self) -> int:
        """Estimate the memory for all decoded samples of the mixture, at most."""
        image_bytes = 3 * self.mix.image_size_px**2
        tiles = self.tiles.layout.max_count
        tokens = sum(source.num_text_tokens + source.num_images * tiles * self.mix.image_tokens for source in self.mix.sources)
        images = tiles * sum(source.num_images for source in self.mix.sources)
        samples = sum(source.num_samples for source in self.mix.sources)
        return images * (image_bytes + 128) + 5 * tokens + 600 * samples


def open_mix(store: Store, mix: DataMix, raw: RawData, cache_bytes: int = CACHE_BYTES) -> OpenMix:
    """Open a mixture for reading.

    Args:
        store: the store with the shards and the tokenizer.
        mix: the mixture.
        raw: the RawData of the mixture.
        cache_bytes: maximum size of the local cache, for stores in a bucket.

    Raises:
        DataError: the manifests do not belong together, or an index cannot be read.
    """
    if mix.raw != digest_of_manifest(raw):
        raise DataError(f"the mixture was made from RawData {mix.raw[:12]}, not from {digest_of_manifest(raw)[:12]}")
    readers = {
        number: open_shards(store, shards_of(store, raw, source), cache_bytes)
        for number, source in enumerate(mix.sources)
        if source.weight
    }
    plan = make_plan(mix, {number: [reader.index for reader in shard_readers] for number, shard_readers in readers.items()})
    return OpenMix(mix, plan, TextTokenizer.from_store(store, mix.tokenizer), readers, store.is_local)


def make_plan(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> MixturePlan:
    """Create the plan of a mixture.

    Args:
        mix: the mixture.
        indexes: shard indexes of each source with a non-zero weight.
    """
    streams = {number: source_stream(mix, number, shard_indexes) for number, shard_indexes in indexes.items()}
    if mix.one_source:
        shares = [source.share for source in mix.sources]
        return MixturePlan(Mixture(shares), [streams.get(number) for number in range(len(mix.sources))])
    orders = [stream.order for stream in streams.values() if isinstance(stream.order, SampleOrder)]
    mixed = MixedOrder(orders, Mixture([mix.sources[number].share for number in streams]))
    together = SourceStream(
        "mixture",
        [index for stream in streams.values() for index in stream.indexes],
        limits_of(mix),
        mixed,
        drop_long=mix.long_documents == "drop",
        places=[shard_place for stream in streams.values() for shard_place in stream.places],
        members=[rows for stream in streams.values() for rows in _members(stream)] if mix.holdout else None,
        tiles=ImageTiles.of(mix),
    )
    return MixturePlan(None, [together])


def _members(stream: SourceStream) -> list[Members]:
    return list(stream.members) if stream.members is not None else [np.arange(len(index)) for index in stream.indexes]


def source_stream(mix: DataMix, number: int, indexes: Sequence[ShardIndex], *, held_out: bool = False) -> SourceStream:
    """Create the packed sequences of a single source: of the samples to train on, or of those that are held out.

    Raises:
        DataError: there are no such samples.
    """
    name = mix.sources[number].name
    share = mix.holdout.get(name, 0.0)
    members = None
    if share or held_out:
        members = held_out_rows(indexes, share) if held_out else trainable_rows(indexes, share)
    return SourceStream(
        name,
        indexes,
        limits_of(mix),
        SampleOrder(name, [*map(len, members or indexes)], mix.order_seed, members=members),
        drop_long=mix.long_documents == "drop",
        places=[(number, shard) for shard in range(len(indexes))],
        members=members,
        tiles=ImageTiles.of(mix),
    )


def limits_of(mix: DataMix) -> PackingLimits:
    """Return the limits on the mixture's sequences."""
    return PackingLimits(sequence_length=mix.sequence_length, max_images=mix.max_images, image_tokens=mix.image_tokens)


def shards_of(store: Store, raw: RawData, source: MixSource) -> list[Shard]:
    """List the shards of a source that are part of a mixture.

    Raises:
        DataError: the data lack the source, or a shard named by the mixture.
    """
    if parent_of(source.name) not in raw.sources:
        raise DataError(f"the mixture's source {source.name!r} is not in its data")
    shards = {shard.tar.sha256: shard for shard in named_shards(raw, source.name)}
    if source.shards is None:
        return list(shards.values())
    chosen = store.get_bytes(source.shards).decode().split()
    missing = [digest for digest in chosen if digest not in shards]
    if missing:
        raise DataError(f"source {source.name}: shard {missing[0][:12]} of the mixture is not in its data")
    return [shards[digest] for digest in chosen]


def open_indexes(store: Store, raw: RawData, source: MixSource) -> list[ShardIndex]:
    """Read the indexes of a source's shards that are part of a mixture.

    Raises:
        DataError: an index cannot be read, or belongs to another tar.
    """
    return open_shard_indexes(store, shards_of(store, raw, source))


def open_shard_indexes(store: Store, shards: Sequence[Shard]) -> list[ShardIndex]:
    """Read the indexes of shards.

    Raises:
        DataError: an index cannot be read, or belongs to another tar.
    """
    return [ShardIndex(store.local_path(shard.index), shard.name, shard.tar) for shard in shards]


def open_shards(store: Store, shards: Sequence[Shard], cache_bytes: int = CACHE_BYTES) -> list[ShardReader]:
    """Create readers of shards; indexes are read immediately, tars when a sample is read.

    Args:
        store: the store with the shards. Blocks from a bucket are read by ranges and cached in the store's local folder.
        shards: the shards to open.
        cache_bytes: maximum size of the cache.

    Raises:
        DataError: an index cannot be read, or belongs to another tar.
    """
    cache = None if store.is_local else BlockCache(store, store.block_folder, cache_bytes)
    return [
        ShardReader(
            shard.name,
            FileBytes(partial(store.local_path, shard.tar)) if cache is None else CachedBytes(cache, shard.tar),
            ShardIndex(store.local_path(shard.index), shard.name, shard.tar),
        )
        for shard in shards
    ]
