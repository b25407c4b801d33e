"""From raw files to shards in two map-reduce rounds.

    plan     raw files of each source -> RawPart, RawPart, ...
    filter   RawPart -> reader -> Filters -> tars, signatures -> FilteredPart              (map)
    merge    all FilteredParts -> duplicates; the tokenizer -> MergedParts                 (reduce)
    shard    FilteredPart, MergedParts -> remaining samples, with an index -> ShardedPart   (map)
    collect  all ShardedParts -> RawData                                                   (reduce)

Each function reads its input from the store and writes its blobs there, so it can run in any process on any machine. Parts
are determined by the files alone: the same files give the same bytes, regardless of the number of machines.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mm1.data.config import ShardLimits, SourcePreset, preset_named
from mm1.data.prepare.duplicates import DUPLICATE, NEAR, WHOLE_SAMPLE, read_drops, write_drops
from mm1.data.prepare.filters import MAX_EXAMPLES, Filters, document_fault, with_images
from mm1.data.prepare.signatures import Signatures
from mm1.data.prepare.sources.formats import read_files
from mm1.data.prepare.sources.raw import Fetch, cleaner
from mm1.data.prepare.sources.roots import RawRoot
from mm1.data.sample import Sample
from mm1.data.shards import ShardWriter, WrittenShard, read_samples, scan_tar, write_index
from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer
from mm1.errors import DataError
from mm1.manifests import (
    FilteredPart,
    MergedParts,
    RawData,
    RawFile,
    RawPart,
    Shard,
    ShardedPart,
    SourceData,
    digest_of_manifest,
)
from mm1.store.base import BlobRef, Store

log = logging.getLogger(__name__)

PART_BYTES = 512_000_000
"""Approximate raw size of a part, in bytes; a larger file is a part of its own."""
MAX_PARTS = 256
"""Maximum number of parts per source: their addresses are passed through the pipeline engine in one list."""
MAX_TRAINING_CHARACTERS = 50_000_000
"""Maximum amount of text per source for training a tokenizer."""
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
_DAMAGE = ("missing_image", "unreadable_image")


class FilterSettings(NamedTuple):
    """A mapper's settings, the same for all parts."""

    preset: str
    reserved: tuple[str, ...]
    """Texts of special tokens, which are removed from raw text."""
    fetch: Fetch | None = None
    limits: ShardLimits | None = None


def plan_parts(source: str, form: str, files: Sequence[RawFile], part_bytes: int = PART_BYTES) -> list[RawPart]:
    """Group the files of a source into parts, preserving their order."""
    target_bytes = max(part_bytes, -(-sum(file.num_bytes for file in files) // MAX_PARTS))
    groups: list[list[RawFile]] = []
    size = 0
    for file in files:
        if not groups or (size + file.num_bytes > target_bytes and len(groups) < MAX_PARTS):
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.num_bytes
    return [RawPart(source=source, number=number, format=form, files=tuple(group)) for number, group in enumerate(groups)]


def filter_part(store: Store, part: RawPart, root: RawRoot, how: FilterSettings, work: Path) -> FilteredPart:
    """Filter the files of a part; store the remaining samples as tars, together with their signatures.

    Args:
        store: the store for the tars.
        part: the part to filter.
        root: location of its files.
        how: preset and reserved texts.
        work: scratch folder.

    Raises:
        DataError: a file is damaged or malformed.
    """
    preset = preset_named(how.preset).of(part.source)
    filters, num_read = Filters(preset), 0
    folder = work / f"{part.source}-{part.number:05d}"
    names = [file.name for file in part.files]
    with (
        ShardWriter(folder, f"{part.source}-{part.number:05d}", how.limits) as writer,
        Signatures(folder / "signatures.parquet", part.number, preset.near_duplicates) as signatures,
    ):
        for sample in read_files(part.source, part.format, root, names, cleaner(how.reserved), how.fetch):
            key = f"{part.source}-{part.number:05d}-{num_read:07d}"
            num_read += 1
            if kept := filters.apply(sample):
                writer.add(replace(kept.sample, key=key))
                signatures.add(kept)
    log.info("%s, part %d: %d of %d samples passed the filters", part.source, part.number, writer.num_samples, num_read)
    return FilteredPart(
        parents=(digest_of_manifest(part),),
        source=part.source,
        number=part.number,
        format=part.format,
        preset=how.preset,
        num_read=num_read,
        dropped=dict(sorted(filters.dropped.items())),
        examples={name: tuple(origins) for name, origins in sorted(filters.examples.items())},
        tars=tuple(store.put_file(shard.path) for shard in writer.shards),
        signatures=store.put_file(signatures.path),
    )


def merge_parts(store: Store, parts: Sequence[FilteredPart], tokenizer: Path, origin: str | None, work: Path) -> MergedParts:
    """Find duplicates over all parts of each source.

    Args:
        store: the store with the parts' blobs.
        parts: all parts of all sources.
        tokenizer: folder of the tokenizer.
        origin: digest of the manifest that the tokenizer was reused from.
        work: scratch folder.

    Raises:
        DataError: a source has no samples, or none that passed its filters.
    """
    check_sources(parts)
    drops: dict[str, BlobRef] = {}
    for source in dict.fromkeys(part.source for part in parts):
        source_parts = {part.number: part for part in parts if part.source == source}
        signatures = [store.local_path(part.signatures) for part in source_parts.values()]
        preset = preset_named(next(iter(source_parts.values())).preset).of(source)
        for number, path in write_drops(signatures, preset, work / f"drops-{source}").items():
            drops[digest_of_manifest(source_parts[number])] = store.put_file(path)
    return MergedParts(
        parents=tuple(digest_of_manifest(part) for part in parts),
        tokenizer_from=origin,
        parts={part.parents[0]: digest_of_manifest(part) for part in parts},
        drops=dict(sorted(drops.items())),
        tokenizer=store.put_folder(tokenizer),
    )


def check_sources(parts: Sequence[FilteredPart]) -> None:
    """Check that every source has samples left.

    Raises:
        DataError: a source has no samples, or none passed its filters.
    """
    for source in dict.fromkeys(part.source for part in parts):
        source_parts = [part for part in parts if part.source == source]
        num_read = sum(part.num_read for part in source_parts)
        if not num_read:
            raise DataError(f"{source}: the {len(source_parts)} part(s) of {source_parts[0].format} files contain no samples")
        if not any(part.tars for part in source_parts):
            dropped = sum_counts(part.dropped for part in source_parts)
            examples = merge_examples(part.examples for part in source_parts)
            most = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))[:3]
            why = "; ".join(f"{drop} {count} (for example {examples[drop][0]})" for drop, count in most)
            raise DataError(f"{source}: none of the {num_read} samples passed the filters: {why}")


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


def shard_part(
    store: Store, merged: MergedParts, part: FilteredPart, work: Path, limits: ShardLimits | None = None
) -> ShardedPart:
    """Remove the samples dropped by the merge, and write the rest as shards with indexes and features.

    A part without drops keeps its tars unchanged.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = TextTokenizer.from_store(store, merged.tokenizer)
    drops = merged.drops.get(digest_of_manifest(part))
    dropped: Counter[str] = Counter()
    examples: dict[str, list[str]] = defaultdict(list)
    prefix = f"{part.source}-{part.number:05d}"
    if drops is None:
        written = [scan_tar(store.local_path(tar)) for tar in part.tars]
        stays = None
    else:
        table, preset = read_drops(store.local_path(drops)), preset_named(part.preset).of(part.source)
        stays = []
        with ShardWriter(work / prefix, prefix, limits) as writer:
            for row, sample in enumerate(_samples(store, part)):
                kept, reasons = _without(sample, table.get(row, {}), preset)
                for reason in reasons:
                    dropped[reason] += 1
                    if len(examples[reason]) < MAX_EXAMPLES:
                        examples[reason].append(sample.origin)
                if kept is not None:
                    stays.append(row)
                    writer.add(kept)
        written = writer.shards
    facts = pq.read_table(store.local_path(part.signatures), columns=["words", "sides", "english", "other_language"])
    if stays is not None:
        facts = facts.take(pa.array(stays, pa.int64()))
    shards = []
    for number, shard in enumerate(written):
        shard_facts = facts.slice(sum(len(other.keys) for other in written[:number]), len(shard.keys))
        features = _features(part, shard_facts, shard.num_images, dropped[DUPLICATE] + dropped[NEAR])
        shards.append(_store_shard(store, shard, f"{prefix}-{number:05d}", tokenizer, features, work))
    return ShardedPart(
        parents=(digest_of_manifest(merged), digest_of_manifest(part)),
        source=part.source,
        number=part.number,
        dropped=dict(sorted(dropped.items())),
        examples={reason: tuple(origins) for reason, origins in sorted(examples.items())},
        shards=tuple(shards),
    )


def _samples(store: Store, part: FilteredPart) -> Iterator[Sample]:
    for tar in part.tars:
        yield from read_samples(scan_tar(store.local_path(tar)), with_images=True)


def _without(sample: Sample, drops: Mapping[int, str], preset: SourcePreset) -> tuple[Sample | None, list[str]]:
    """Remove images from a sample, or drop it (None); also return the reasons, to be counted."""
    if not drops:
        return sample, []
    if WHOLE_SAMPLE in drops:
        return None, [drops[WHOLE_SAMPLE]]
    if sample.source != "interleaved":
        return None, [next(iter(drops.values()))]
    kept = with_images(sample, [image for image in range(len(sample.images)) if image not in drops])
    fault = document_fault(kept, preset).partition(":")[0]
    return None if fault else kept, [*drops.values(), *([fault] if fault else [])]


def _features(part: FilteredPart, rows: pa.Table, num_images: int, num_double: int) -> dict[str, float]:
    """Compute the features of a shard; see :mod:`mm1.data.features.columns`.

    The initial quality is (1 - duplicates) x (1 - damaged) x (0.5 + 0.5 x English), each a fraction of samples.
    """
    count = max(1, rows.num_rows)
    words, sides, english, other = (pc.sum(rows[name]).as_py() or 0 for name in ("words", "sides", "english", "other_language"))
    double = num_double / max(1, part.num_read)
    damaged = sum(part.dropped.get(name, 0) for name in _DAMAGE) / max(1, part.num_read)
    english = english / count
    features = {
        "mean_words": words / count,
        "english_share": english,
        "other_language_share": other / count,
        "duplicate_rate": double,
        "damaged_rate": min(1.0, damaged),
    }
    if part.source in ("captions", "synthetic"):
        features["mean_caption_words"] = words / count
    if num_images:
        features["mean_image_side_px"] = sides / num_images
    features["quality"] = (1 - double) * (1 - features["damaged_rate"]) * (0.5 + 0.5 * english)
    return {name: round(value, 6) for name, value in sorted(features.items())}


def _store_shard(
    store: Store, written: WrittenShard, name: str, tokenizer: TextTokenizer, features: dict[str, float], work: Path
) -> Shard:
    tar = store.put_file(written.path)
    index, num_text_tokens = write_index(written, tokenizer, tar, work / f"{name}.index.parquet")
    return Shard(
        name=name,
        tar=tar,
        index=store.put_file(index),
        num_samples=len(written.keys),
        num_images=written.num_images,
        num_text_tokens=num_text_tokens,
        features=features,
    )


def collect(merged: MergedParts, filtered: Sequence[FilteredPart], sharded: Sequence[ShardedPart]) -> RawData:
    """Combine all parts into RawData.

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
        shards = tuple(shard for part in sharded_parts for shard in part.shards)
        if not shards:
            raise DataError(f"{name}: no samples are left after deduplication")
        sources[name] = SourceData(
            format=filtered_parts[0].format,
            preset=filtered_parts[0].preset,
            num_read=sum(part.num_read for part in filtered_parts),
            dropped=sum_counts([*(part.dropped for part in filtered_parts), *(part.dropped for part in sharded_parts)]),
            examples=merge_examples([*(part.examples for part in filtered_parts), *(part.examples for part in sharded_parts)]),
            shards=shards,
        )
    parents = (merged.tokenizer_from,) if merged.tokenizer_from else ()
    return RawData(parents=parents, sources=sources, tokenizer=merged.tokenizer)


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum counts by name, sorted by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def merge_examples(examples: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Collect the first few examples of each name, sorted by name."""
    gathered: dict[str, list[str]] = defaultdict(list)
    for each in examples:
        for name, some in each.items():
            gathered[name] += some
    return {name: tuple(some[:MAX_EXAMPLES]) for name, some in sorted(gathered.items())}
