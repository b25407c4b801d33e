"""The reduce steps of ingest: all parts together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mm1.data.config import MAX_DAMAGED_SHARE, preset_named
from mm1.data.prepare.duplicates import write_drops
from mm1.data.prepare.tally import merge_examples, sum_counts
from mm1.data.shards import read_samples, scan_tar
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import DataError
from mm1.manifests import FilteredPart, MergedParts, PlannedSource, RawData, ShardedPart, SourceData, digest_of_manifest
from mm1.store.base import BlobRef, Store

MIN_ROWS = 200
"""A source with fewer rows may have as many odd ones as one with this number."""
MAX_TRAINING_CHARACTERS = 50_000_000
"""Maximum amount of text per source for training a tokenizer."""
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


def merge_parts(
    store: Store,
    parts: Sequence[FilteredPart],
    tokenizer: Path,
    origin: str | None,
    work: Path,
    parents: Sequence[str] = (),
) -> MergedParts:
    """Find duplicates over all parts of each source.

    Args:
        store: the store with the parts' blobs.
        parts: all parts of all sources.
        parents: digests of the FilteredParts that they come from.
        tokenizer: folder of the tokenizer.
        origin: digest of the manifest that the tokenizer was reused from.
        work: scratch folder.

    Raises:
        DataError: a source has no samples, or none that passed its filters.
    """
    drops: dict[str, BlobRef] = {}
    for source in dict.fromkeys(part.source for part in parts):
        source_parts = {part.number: part for part in parts if part.source == source}
        signatures = [store.local_path(part.signatures) for part in source_parts.values()]
        preset = preset_named(next(iter(source_parts.values())).preset).of(source)
        for number, path in write_drops(signatures, preset, work / f"drops-{source}").items():
            drops[digest_of_manifest(source_parts[number])] = store.put_file(path)
    return MergedParts(
        parents=tuple(parents),
        tokenizer_from=origin,
        drops=dict(sorted(drops.items())),
        tokenizer=store.put_folder(tokenizer),
    )


def check_sources(parts: Sequence[FilteredPart], max_damaged_share: float = MAX_DAMAGED_SHARE) -> None:
    """Check that every source has samples left, and not too many odd rows.

    Raises:
        DataError: a source has no samples, none passed its filters, or too many rows cannot be read.
    """
    for source in dict.fromkeys(part.source for part in parts):
        source_parts = [part for part in parts if part.source == source]
        num_read = sum(part.num_read for part in source_parts)
        examples = merge_examples(part.examples for part in source_parts)
        dropped, odd = (sum_counts(getattr(part, name) for part in source_parts) for name in ("dropped", "odd"))
        if not num_read:
            left_out = sum_counts(part.left_out for part in source_parts)
            why = f": not read: {commonest(left_out, examples)}" if left_out else ""
            raise DataError(
                f"{source}: the {len(source_parts)} part(s) of {source_parts[0].format} files contain no samples{why}"
            )
        num_odd = sum(odd.values())
        if num_odd > max_damaged_share * max(num_read, MIN_ROWS) or (2 * num_odd >= num_read and max_damaged_share < 1):
            raise DataError(
                f"{source}: {num_odd:,} of {num_read:,} rows cannot be read, more than max_damaged_share "
                f"({max_damaged_share:g}) allows: {commonest(odd, examples)}"
            )
        if not any(part.tars for part in source_parts):
            removed = sum_counts(part.removed for part in source_parts)
            why = f"; removed from documents: {commonest(removed, examples)}" if removed else ""
            raise DataError(
                f"{source}: none of the {num_read:,} samples passed the filters of the preset {source_parts[0].preset}: "
                f"{commonest(dropped, examples)}{why}"
            )


def commonest(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> str:
    """Format the three commonest reasons, with an example of each."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return "; ".join(f"{name} {count:,} (for example {examples[name][0]})" for name, count in most)


def training_texts(store: Store, parts: Iterable[FilteredPart], limit: int = MAX_TRAINING_CHARACTERS) -> Iterator[str]:
    """Yield the texts for training a tokenizer: up to a limit of characters from every source, without special tokens."""
    room: dict[str, int] = defaultdict(lambda: limit)
    for part in parts:
        for tar in part.tars:
            if room[part.source] <= 0:
                break
            for sample in read_samples(scan_tar(store.local_path(tar))):
                for text in sample.texts():
                    room[part.source] -= len(text)
                    yield from filter(None, _SPECIAL.split(text))


def collect(
    planned: Mapping[str, PlannedSource],
    merged: MergedParts,
    filtered: Sequence[FilteredPart],
    sharded: Sequence[ShardedPart],
) -> RawData:
    """Combine all parts into RawData.

    Args:
        planned: what each source holds.
        merged: the result of the merge.
        filtered: all parts.
        sharded: their shards.

    Raises:
        DataError: the parts do not belong together, or no samples of a source are left.
    """
    shards_of = {part.parents[1]: part for part in sharded}
    sources = {}
    for name in dict.fromkeys(part.source for part in filtered):
        filtered_parts = sorted((part for part in filtered if part.source == name), key=lambda part: part.number)
        if missing := [part.number for part in filtered_parts if digest_of_manifest(part) not in shards_of]:
            raise DataError(f"{name}: part {missing[0]} was filtered, but its shards are missing")
        sharded_parts = [shards_of[digest_of_manifest(part)] for part in filtered_parts]
        if not any(part.shards for part in sharded_parts):
            dropped = sum_counts(part.dropped for part in sharded_parts)
            examples = merge_examples(part.examples for part in sharded_parts)
            raise DataError(f"{name}: no samples are left after deduplication: {commonest(dropped, examples)}")
        sources[name] = _source_data(planned[name], filtered_parts, sharded_parts)
    parents = (merged.tokenizer_from,) if merged.tokenizer_from else ()
    return RawData(parents=parents, sources=sources, tokenizer=merged.tokenizer)


def _source_data(planned: PlannedSource, filtered: Sequence[FilteredPart], sharded: Sequence[ShardedPart]) -> SourceData:
    both: list[FilteredPart | ShardedPart] = [*filtered, *sharded]
    return SourceData(
        format=", ".join(dict.fromkeys(part.format for part in filtered)),
        preset=filtered[0].preset,
        num_files=planned.num_files,
        num_bytes=planned.num_bytes,
        num_read=sum(part.num_read for part in filtered),
        dropped=sum_counts(part.dropped for part in both),
        removed=sum_counts(part.removed for part in both),
        odd=sum_counts(part.odd for part in filtered),
        left_out=sum_counts([planned.left_out, *(part.left_out for part in filtered)]),
        examples=merge_examples([planned.examples, *(part.examples for part in both)]),
        shards=tuple(shard for part in sharded for shard in part.shards),
    )
