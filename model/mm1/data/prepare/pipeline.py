"""From raw files to shards in two map-reduce rounds.

    plan     raw files of each source -> RawPart, RawPart, ...                              (mm1.data.prepare.plan)
    filter   RawPart -> reader -> Filters -> tars, signatures -> FilteredPart              (map)
    merge    all FilteredParts -> duplicates; the tokenizer -> MergedParts                 (mm1.data.prepare.merge)
    shard    FilteredPart, MergedParts -> remaining samples, with an index -> ShardedPart   (map)
    collect  all ShardedParts -> RawData                                                   (mm1.data.prepare.merge)

Each function reads its input from the store and writes its blobs there, so it can run in any process on any machine. Parts
are determined by the files alone: the same files give the same bytes, regardless of the number of machines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mm1.data.config import ShardLimits, SourcePreset, preset_named
from mm1.data.prepare.duplicates import DUPLICATE, NEAR, WHOLE_SAMPLE, read_drops
from mm1.data.prepare.files.raw import Odd, cleaner
from mm1.data.prepare.filters import Filters, document_fault, with_images
from mm1.data.prepare.locations.roots import LeftOut, RawRoot
from mm1.data.prepare.meter import Meter
from mm1.data.prepare.signatures import Signatures
from mm1.data.prepare.sources.formats import DEFAULTS, Options, Reading
from mm1.data.prepare.tally import Tally, merge_examples, sum_counts
from mm1.data.sample import Sample
from mm1.data.shards import ShardWriter, WrittenShard, read_samples, scan_tar, write_index
from mm1.data.tokenizer import TextTokenizer
from mm1.manifests import (
    FilteredPart,
    MergedParts,
    RawPart,
    Shard,
    ShardedPart,
    digest_of_manifest,
)
from mm1.store.base import Store

log = logging.getLogger(__name__)

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
    tally = Tally()
    filters = Filters(preset, tally)
    prefix = f"{part.source}-{part.number:05d}"
    folder = work / prefix
    reading = Reading(part.source, part.format, root, part.files, cleaner(how.reserved), how.options)
    with (
        ShardWriter(folder, prefix, how.limits) as writer,
        Signatures(folder / "signatures.parquet", part.number, preset.near_duplicates) as signatures,
    ):
        for item in meter.count(reading, reading.position):
            if not isinstance(item, Sample):
                _note(item, tally)
                continue
            key = f"{prefix}-{tally.num_read:07d}"
            tally.num_read += 1
            kept = filters.apply(item)
            meter.done("filters")
            if kept:
                writer.add(replace(kept.sample, key=key))
                signatures.add(kept)
                meter.done("writing")
    log.debug("%s, %s: %d of %d rows passed the filters", part.source, part.label, writer.num_samples, tally.num_read)
    return FilteredPart(
        parents=(digest_of_manifest(part),),
        source=part.source,
        number=part.number,
        format=part.format,
        preset=how.preset,
        group=part.group,
        num_read=tally.num_read,
        dropped=sum_counts([tally.dropped]),
        removed=sum_counts([tally.removed]),
        odd=sum_counts([tally.odd]),
        left_out=sum_counts([tally.left_out]),
        examples=merge_examples([tally.examples]),
        tars=tuple(store.put_file(shard.path) for shard in writer.shards),
        signatures=store.put_file(signatures.path),
    )


def _note(item: Odd | LeftOut, tally: Tally) -> None:
    if isinstance(item, Odd):
        tally.read_odd(item.name, f"{item.origin}: {item.detail}")
    else:
        tally.leave_out(item.reason, item.name)


def shard_part(
    store: Store, merged: MergedParts, part: FilteredPart, work: Path, limits: ShardLimits | None = None
) -> ShardedPart:
    """Remove the samples dropped by the merge, and write the rest as shards with indexes and features.

    A part without drops keeps its tars unchanged.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = TextTokenizer.from_store(store, merged.tokenizer)
    drops = merged.drops.get(digest_of_manifest(part))
    tally = Tally()
    prefix = f"{part.source}-{part.number:05d}"
    if drops is None:
        written = [scan_tar(store.local_path(tar)) for tar in part.tars]
        stays = None
    else:
        table, preset = read_drops(store.local_path(drops)), preset_named(part.preset).of(part.source)
        stays = []
        with ShardWriter(work / prefix, prefix, limits) as writer:
            for row, sample in enumerate(_samples(store, part)):
                kept = _without(sample, table.get(row, {}), preset, tally)
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
        features = _features(part, shard_facts, shard.num_images, tally.dropped[DUPLICATE] + tally.dropped[NEAR])
        shards.append(_store_shard(store, shard, f"{prefix}-{number:05d}", tokenizer, features, part.group, work))
    return ShardedPart(
        parents=(digest_of_manifest(merged), digest_of_manifest(part)),
        source=part.source,
        number=part.number,
        group=part.group,
        dropped=sum_counts([tally.dropped]),
        removed=sum_counts([tally.removed]),
        examples=merge_examples([tally.examples]),
        shards=tuple(shards),
    )


def _samples(store: Store, part: FilteredPart) -> Iterator[Sample]:
    for tar in part.tars:
        yield from read_samples(scan_tar(store.local_path(tar)), with_images=True)


def _without(sample: Sample, drops: Mapping[int, str], preset: SourcePreset, tally: Tally) -> Sample | None:
    """Remove images from a sample, or drop it (None)."""
    if not drops:
        return sample
    if WHOLE_SAMPLE in drops or sample.source != "interleaved":
        tally.drop(drops.get(WHOLE_SAMPLE) or next(iter(drops.values())), sample.origin)
        return None
    for reason in drops.values():
        tally.remove(reason, sample.origin)
    kept = with_images(sample, [image for image in range(len(sample.images)) if image not in drops])
    if fault := document_fault(kept, preset).partition(":")[0]:
        tally.drop(fault, sample.origin)
        return None
    return kept


def _features(part: FilteredPart, rows: pa.Table, num_images: int, num_double: int) -> dict[str, float]:
    """Compute the features of a shard; see :mod:`mm1.data.features.columns`.

    The initial quality is (1 - duplicates) x (1 - damaged) x (0.5 + 0.5 x English), each a fraction of samples.
    """
    count = max(1, rows.num_rows)
    words, sides, english, other = (pc.sum(rows[name]).as_py() or 0 for name in ("words", "sides", "english", "other_language"))
    double = num_double / max(1, part.num_read)
    damaged = sum(part.dropped.get(name, 0) + part.removed.get(name, 0) for name in _DAMAGE) / max(1, part.num_read)
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
