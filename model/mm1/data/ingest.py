"""From raw files to shards: read, filter, write, and count tokens.

    raw files -> reader -> Filters -> ShardWriter -> tars          (filter_source, once per source, in any process)
    tars -> texts -> tokenizer                                      (training_texts, where one is trained)
    tars + tokenizer -> index -> store -> SourceData                (store_source)

The raw files are read once and in one pass; equal files give equal bytes, whoever does the work.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mm1.data.config import FilterPreset, ShardLimits
from mm1.data.filters import Filters
from mm1.data.shards import ShardWriter, WrittenShard, read_samples, write_index
from mm1.data.sources.formats import reader_of
from mm1.data.sources.raw import cleaner
from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer
from mm1.errors import DataError
from mm1.manifests import Shard, SourceData
from mm1.store.base import Store

log = logging.getLogger(__name__)

MAX_TRAINING_CHARACTERS = 50_000_000
"""Text of one source that a tokenizer is trained on at most."""
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


@dataclass
class FilteredSource:
    """What is left of a source, in tars that are not indexed yet."""

    name: str
    format: str
    num_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    """Filter -> its first victim and the reason."""
    shards: list[WrittenShard] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        """Samples that stayed."""
        return sum(len(shard.keys) for shard in self.shards)


def filter_source(
    name: str, path: Path, preset: FilterPreset, reserved: Sequence[str], folder: Path, limits: ShardLimits | None = None
) -> FilteredSource:
    """Read a source, drop what its preset drops, and write the rest as tars.

    Args:
        name: captions, interleaved, text or instructions.
        path: its raw file or folder.
        preset: filters.
        reserved: texts that are special tokens; they are taken out of raw text.
        folder: where the tars go.
        limits: of a tar.

    Raises:
        DataError: a file is damaged, the source is empty, or nothing passes the filters.
    """
    form, read = reader_of(name, path)
    result = FilteredSource(name, form)
    filters = Filters(preset)
    with ShardWriter(folder, name, limits) as writer:
        for number, sample in enumerate(read(path, cleaner(reserved))):
            result.num_read += 1
            if kept := filters.apply(sample):
                writer.add(replace(kept, key=f"{name}-{number:09d}"))
    result.shards, result.dropped, result.examples = writer.shards, dict(sorted(filters.dropped.items())), filters.examples
    if not result.num_read:
        raise DataError(f"{name}: {path} holds no samples")
    if not result.num_samples:
        most = filters.dropped.most_common(3)
        why = "; ".join(f"{drop} {count} (for example {filters.examples[drop]})" for drop, count in most)
        raise DataError(f"{name}: none of the {result.num_read} samples in {path} passed the filters: {why}")
    return result


def training_texts(sources: Iterable[FilteredSource], limit: int = MAX_TRAINING_CHARACTERS) -> Iterator[str]:
    """Texts that a tokenizer is trained on: of every source up to a limit of characters, special tokens left out."""
    for source in sources:
        room = limit
        for shard in source.shards:
            for sample in read_samples(shard):
                for text in sample.texts():
                    room -= len(text)
                    yield from filter(None, _SPECIAL.split(text))
                if room <= 0:
                    break
            if room <= 0:
                break


def store_source(store: Store, source: FilteredSource, preset_name: str, tokenizer: TextTokenizer) -> SourceData:
    """Index a source's tars and put both into the store."""
    shards = []
    for written in source.shards:
        tar = store.put_file(written.path)
        index, num_text_tokens = write_index(written, tokenizer, tar)
        shards.append(
            Shard(
                name=written.path.stem,
                tar=tar,
                index=store.put_file(index),
                num_samples=len(written.keys),
                num_images=written.num_images,
                num_text_tokens=num_text_tokens,
            )
        )
    return SourceData(
        format=source.format, preset=preset_name, num_read=source.num_read, dropped=source.dropped, shards=tuple(shards)
    )
