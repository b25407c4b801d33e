"""From filtered data to the sources of a mixture: shards, weights, held-out samples, shares of sequences.

RawData, weights, selected shards -> MixSource, ... -> shares of held-out samples -> shares of sequences -> DataMix
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mm1.data.load.holdout import ALL, Rows, parse_holdout, request_of, share_for, trainable_rows
from mm1.data.load.image_tiles import count_marks, layout_of
from mm1.data.load.mixture import Mixture, check_period
from mm1.data.load.open_mix import open_shard_indexes
from mm1.data.reader import ShardIndex
from mm1.data.source_names import check_names_in, group_of, named_shards, parent_of
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import ConfigurationError
from mm1.manifests import DataMix, MixSource, RawData
from mm1.store.base import Store


def mixed_sources(
    store: Store, raw: RawData, weights: Mapping[str, float], selected: Mapping[str, Sequence[str]]
) -> tuple[MixSource, ...]:
    """Return the sources of a mixture.

    Args:
        store: store for lists of shards.
        raw: the data.
        weights: positive weights by source or sub-source.
        selected: SHA-256 of the selected tars, by name; all shards of names that are not in it.

    Raises:
        ConfigurationError: the data lacks a source or sub-source, or no shards are left for one.
    """
    check_names_in(raw, "weights", weights)
    total = sum(weights.values())
    return tuple(
        _source(store, raw, name, list(weights), weight / total, selected.get(name)) for name, weight in weights.items()
    )


def _source(
    store: Store, raw: RawData, name: str, names: Sequence[str], weight: float, selected: Sequence[str] | None
) -> MixSource:
    kept = named_shards(raw, name, names)
    if not kept:
        subsources = ", ".join(other for other in names if parent_of(other) == name and group_of(other))
        raise ConfigurationError(f"weights: {name!r} has no shards besides those of {subsources}: leave it out")
    if selected is not None:
        chosen = set(selected)
        kept = [shard for shard in kept if shard.tar.sha256 in chosen]
    whole = len(kept) == len(named_shards(raw, name))
    return MixSource(
        name=name,
        weight=round(weight, 9),
        shards=None if whole else store.put_bytes("\n".join(shard.tar.sha256 for shard in kept).encode()),
        num_samples=sum(shard.num_samples for shard in kept),
        num_images=sum(shard.num_images for shard in kept),
        num_text_tokens=sum(shard.num_text_tokens for shard in kept),
    )


def hold_out(store: Store, mix: DataMix, raw: RawData, indexes: Mapping[int, Sequence[ShardIndex]], requests: str) -> DataMix:
    """Freeze the shares of held-out samples, and take these samples out of the counts of each source.

    Args:
        store: the store with the shards.
        mix: the mixture.
        raw: its data.
        indexes: shard indexes of each source.
        requests: shares or numbers of samples, see :func:`mm1.data.load.holdout.parse_holdout`.

    Raises:
        ConfigurationError: an unknown name, or no samples would be left.
        DataError: an earlier version wrote the shards.
    """
    amounts = parse_holdout(requests)
    check_names_in(raw, "holdout", (name for name in amounts if name != ALL))
    shares: dict[str, float] = {}
    sources = []
    for number, source in enumerate(mix.sources):
        share = _share(store, raw, *request_of(amounts, source.name), source.name)
        if share:
            shares[source.name] = share
            source = _trainable(source, indexes[number], trainable_rows(indexes[number], share))
        sources.append(source)
    return mix.model_copy(update={"sources": tuple(sources), "holdout": shares})


def _share(store: Store, raw: RawData, requested: str, amount: float, name: str) -> float:
    """Return the share of held-out samples of a source, for a share or number that was requested for it or its parent."""
    if amount < 1:
        return amount
    whole = requested or parent_of(name)
    # Of all its shards: mixtures of other shards and weights hold out the same samples.
    hashes = (index.content_hashes() for index in open_shard_indexes(store, named_shards(raw, whole)))
    return share_for(int(amount), hashes, whole)


def _trainable(source: MixSource, indexes: Sequence[ShardIndex], rows: Sequence[Rows]) -> MixSource:
    num_samples = sum(map(len, rows))
    if not num_samples:
        raise ConfigurationError(
            f"holdout: all {source.num_samples:,} samples of {source.name} are held out: set a smaller share"
        )
    pairs = list(zip(indexes, rows, strict=True))
    return source.model_copy(
        update={
            "num_held_out": source.num_samples - num_samples,
            "num_samples": num_samples,
            "num_images": sum(int(index.num_images[kept].sum()) for index, kept in pairs),
            "num_text_tokens": sum(int(index.num_text_tokens[kept].sum()) for index, kept in pairs),
        }
    )


def with_layout(mix: DataMix, text: str, store: Store) -> DataMix:
    """Freeze the division of images into tiles, and the tokens of the marks between them.

    Args:
        mix: the mixture.
        text: text form of the layout.
        store: the store with the tokenizer.

    Raises:
        ConfigurationError: it is not a layout.
    """
    layout = layout_of(text)
    if layout.is_single:
        return mix
    marks = count_marks(layout, TextTokenizer.from_store(store, mix.tokenizer))
    return mix.model_copy(update={"image_layout": str(layout), "mark_tokens": marks})


def with_shares(mix: DataMix, shares: Mapping[int, float]) -> DataMix:
    """Freeze the share of sequences of each source, as the order of the mixture gives it exactly.

    Args:
        mix: the mixture.
        shares: share of each source, in the order of the sources.

    Raises:
        ConfigurationError: a share is so small that the source would never occur.
    """
    check_period({source.name: shares[number] for number, source in enumerate(mix.sources)})
    exact = Mixture([shares[number] for number in range(len(mix.sources))]).shares
    sources = [
        source.model_copy(update={"sequence_share": round(float(share), 9)})
        for source, share in zip(mix.sources, exact, strict=True)
    ]
    return mix.model_copy(update={"sources": tuple(sources)})


def notes_on(mix: DataMix, raw: RawData, requests: str) -> list[str]:
    """Describe data that no source of the mixture takes, and held-out samples that need attention.

    Args:
        mix: the mixture.
        raw: its data.
        requests: the request for held-out samples.
    """
    notes = []
    names = [source.name for source in mix.sources]
    for parent in dict.fromkeys(map(parent_of, names)):
        if parent in names:
            continue
        if rest := named_shards(raw, parent, names):
            groups = ", ".join(sorted({shard.group or "(no folder)" for shard in rest}))
            samples = sum(shard.num_samples for shard in rest)
            notes.append(f"{samples:,} samples of {parent} are in no source of the mixture: {groups}")
    amounts = parse_holdout(requests)
    for source in mix.sources:
        share = mix.holdout.get(source.name)
        requested, amount = request_of(amounts, source.name)
        if share and not source.num_held_out:
            notes.append(
                f"no sample of {source.name} is held out: a share of {share:g} is too small for {source.num_samples:,}"
            )
        elif share and amount >= 1:
            name = requested or parent_of(source.name)
            notes.append(
                f"holdout={name}={int(amount)} is a share of {share!r} now: give holdout={name}={share!r} to later mixtures "
                "to hold out the same samples when there are more"
            )
    return list(dict.fromkeys(notes))
