"""From raw files to shards in two map-reduce rounds.

    plan     raw files of each source -> RawPart, RawPart, ...                              (mm1.data.prepare.plan)
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
from mm1.data.prepare.meter import Meter
from mm1.data.prepare.signatures import Signatures
from mm1.data.prepare.sources.formats import DEFAULTS, Options, Reading
from mm1.data.prepare.sources.raw import Odd, cleaner
from mm1.data.prepare.sources.roots import LeftOut, RawRoot
from mm1.data.sample import Sample
from mm1.data.shards import ShardWriter, WrittenShard, read_samples, scan_tar, write_index
from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer
from mm1.errors import DataError
from mm1.manifests import (
    FilteredPart,
    MergedParts,
    PlannedSource,
    RawData,
    RawPart,
    Shard,
    ShardedPart,
    SourceData,
    digest_of_manifest,
)
from mm1.store.base import BlobRef, Store

log = logging.getLogger(__name__)

MAX_ODD_SHARE = 0.01
"""Maximum share of odd rows of a source."""
MIN_ROWS = 200
"""A source with fewer rows may have as many odd ones as one with this number."""
MAX_TRAINING_CHARACTERS = 50_000_000
"""Maximum amount of text per source for training a tokenizer."""
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
_DAMAGE = ("missing_image", "unreadable_image")


class FilterSettings(NamedTuple):
    """A mapper's settings, the same for all parts of a source."""

    preset: str
    reserved: tuple[str, ...]
    """Texts of special tokens, which are removed from raw text."""
    options: Options = DEFAULTS
    """How the files are read."""
    limits: ShardLimits | None = None


def filter_part(
    store: Store, part: RawPart, root: RawRoot, how: FilterSettings, work: Path, meter: Meter | None = None
) -> FilteredPart:
    """Filter the files of a part; store the remaining samples as tars, together with their signatures.

    Args:
        store: the store for the tars.
        part: the part to filter.
        root: location of its files.
        how: preset and reserved texts.
        work: scratch folder.
        meter: counts the progress.

    Raises:
        DataError: a file is damaged as a whole.
    """
    preset, meter = preset_named(how.preset).of(part.source), meter or Meter()
    filters, rows = Filters(preset), Rows()
    prefix = f"{part.source}-{part.number:05d}"
    folder = work / prefix
    reading = Reading(part.source, part.format, root, part.files, cleaner(how.reserved), how.options)
    with (
        ShardWriter(folder, prefix, how.limits) as writer,
        Signatures(folder / "signatures.parquet", part.number, preset.near_duplicates) as signatures,
    ):
        for item in meter.count(reading, reading.position):
            if not isinstance(item, Sample):
                rows.note(item)
                continue
            key = f"{prefix}-{rows.num_read:07d}"
            rows.num_read += 1
            kept = filters.apply(item)
            meter.done("filters")
            if kept:
                writer.add(replace(kept.sample, key=key))
                signatures.add(kept)
                meter.done("writing")
    log.info("%s, %s: %d of %d rows passed the filters", part.source, part.label, writer.num_samples, rows.num_read)
    return FilteredPart(
        parents=(digest_of_manifest(part),),
        source=part.source,
        number=part.number,
        format=part.format,
        preset=how.preset,
        group=part.group,
        num_read=rows.num_read,
        dropped=sum_counts([filters.dropped, rows.odd]),
        odd=sum_counts([rows.odd]),
        left_out=sum_counts([rows.left_out]),
        examples=merge_examples([filters.examples, rows.examples]),
        tars=tuple(store.put_file(shard.path) for shard in writer.shards),
        signatures=store.put_file(signatures.path),
    )


class Rows:
    """Counts of a part's rows, and of what is no sample.

    Attributes:
        num_read: samples and odd rows.
        odd: kind of odd row -> rows.
        left_out: reason -> members of archives and pieces of rows.
        examples: kind or reason -> the first of them.
    """

    def __init__(self) -> None:
        self.num_read = 0
        self.odd: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def note(self, item: Odd | LeftOut) -> None:
        """Count an odd row, or something that is left out."""
        if isinstance(item, Odd):
            self.num_read += 1
            self.odd[item.name] += 1
            self._example(item.name, f"{item.origin}: {item.detail}")
        else:
            self.left_out[item.reason] += 1
            self._example(item.reason, item.name)

    def _example(self, name: str, text: str) -> None:
        if len(self.examples[name]) < MAX_EXAMPLES:
            self.examples[name].append(text)


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


def check_sources(parts: Sequence[FilteredPart], max_odd_share: float = MAX_ODD_SHARE) -> None:
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
            raise DataError(f"{source}: the {len(source_parts)} part(s) of {source_parts[0].format} files contain no samples")
        num_odd = sum(odd.values())
        if num_odd > max_odd_share * max(num_read, MIN_ROWS) or (2 * num_odd >= num_read and max_odd_share < 1):
            raise DataError(
                f"{source}: {num_odd:,} of {num_read:,} rows cannot be read, more than max_damaged_share ({max_odd_share:g}) "
                f"allows: {commonest(odd, examples)}"
            )
        if not any(part.tars for part in source_parts):
            raise DataError(f"{source}: none of the {num_read:,} samples passed the filters: {commonest(dropped, examples)}")


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
        shards.append(_store_shard(store, shard, f"{prefix}-{number:05d}", tokenizer, features, part.group, work))
    return ShardedPart(
        parents=(digest_of_manifest(merged), digest_of_manifest(part)),
        source=part.source,
        number=part.number,
        group=part.group,
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
    store: Store, written: WrittenShard, name: str, tokenizer: TextTokenizer, features: dict[str, float], group: str, work: Path
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
        group=group,
    )


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
            raise DataError(f"{name}: no samples are left after deduplication")
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
        odd=sum_counts(part.odd for part in filtered),
        left_out=sum_counts([planned.left_out, *(part.left_out for part in filtered)]),
        examples=merge_examples([planned.examples, *(part.examples for part in both)]),
        shards=tuple(shard for part in sharded for shard in part.shards),
    )


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
