"""The plan of a mixture: sequence number -> its document spans. A pure function that reads indexes, never samples.

    i -> Mixture: (source, its j-th sequence) -> SourceStream: window of SampleOrder -> cut, pack -> spans

Finding sequence j of a source requires packing all earlier windows (lengths only, some microseconds per sample). A *cursor*
records the start of a window, so a resumed loader can start there directly.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

import numpy as np

from mm1.data.load.image_tiles import ImageTiles
from mm1.data.load.mixture import Mixture
from mm1.data.load.order import Members, MixedOrder, SampleOrder
from mm1.data.load.packing import Lengths, PackingLimits, Span, cut_document, pack
from mm1.data.reader import ShardIndex
from mm1.errors import DataError
from mm1.modeling.image_layout import ImageLayout


class SampleSpan(NamedTuple):
    """A document of a shard, or a part of one, in a sequence."""

    shard: int
    row: int
    start: int
    """First token, counted in the document's tokens including image tokens."""
    stop: int
    num_images: int
    source: int
    """Index of the document's source in the mixture."""


class PlannedSequence(NamedTuple):
    """Content of one sequence."""

    source: int
    """Its source; for a sequence of several sources, the one with the most tokens."""
    spans: list[SampleSpan]


class Cursor(NamedTuple):
    """Start of a window."""

    epoch: int
    window: int
    first: int
    """Index of the window's first sequence within its source."""


class SourceStream:
    """The endless packed sequences of one source, or of several that share sequences.

    Args:
        name: the source's name.
        indexes: indexes of its shards.
        limits: limits of a sequence.
        order: order of its samples.
        drop_long: drop documents longer than a sequence instead of splitting them.
        places: source and index within the source, for each shard.
        members: row numbers of the stream's samples in each shard; None = all rows.
        tiles: the division of images; None = they are not divided.
    """

    def __init__(
        self,
        name: str,
        indexes: Sequence[ShardIndex],
        limits: PackingLimits,
        order: SampleOrder | MixedOrder,
        *,
        drop_long: bool = False,
        places: Sequence[tuple[int, int]] | None = None,
        members: Sequence[Members] | None = None,
        tiles: ImageTiles | None = None,
    ) -> None:
        self.name = name
        self.indexes = list(indexes)
        self.limits = limits
        self.tiles = tiles or ImageTiles(ImageLayout(), 1, limits.image_tokens)
        self.order = order
        self.drop_long = drop_long
        self.places = list(places or ((0, shard) for shard in range(len(self.indexes))))
        self._shard_of = {location: shard for shard, location in enumerate(self.places)}
        self.members = members
        self.num_samples = sum(map(len, self.indexes if members is None else members))
        if not self.num_samples:
            raise DataError(f"source {name}: no samples")
        if drop_long and self.num_long == self.num_samples:
            raise DataError(
                f"source {name}: every document is longer than {limits.sequence_length} tokens or {limits.max_images} images; "
                "cut them (long_documents=cut) or choose longer sequences"
            )
        self._cursors = [Cursor(0, 0, 0)]
        self._window: _PackedWindow | None = None

    @property
    def num_long(self) -> int:
        """Number of documents that do not fit into one sequence."""
        too_long = [self._too_long(*self.tiles.lengths(index)) for index in self.indexes]
        if self.members is not None:
            too_long = [long[rows] for long, rows in zip(too_long, self.members, strict=True)]
        return sum(int(long.sum()) for long in too_long)

    def seek(self, cursor: Cursor) -> None:
        """Continue from a recorded window instead of packing everything before it."""
        self._cursors = [cursor]
        self._window = None

    def cursor(self, number: int) -> Cursor:
        """Return the cursor to the window that contains a sequence."""
        return self._find(number).cursor

    def sequence(self, number: int) -> list[SampleSpan]:
        """List the spans of the source's sequence ``number``."""
        window = self._find(number)
        rows = window.sequence(number - window.cursor.first)
        return [
            SampleSpan(self.places[shard][1], row, start, stop, num_images, self.places[shard][0])
            for shard, row, start, stop, num_images in rows
        ]

    def is_cut(self, span: SampleSpan) -> bool:
        """Whether a span is only part of its document."""
        return span.stop - span.start < self.num_tokens(span)

    def num_tokens(self, span: SampleSpan) -> int:
        """Return the tokens of the whole document of a span, including those of images."""
        index = self._index_of(span)
        images = self.tiles.images(index, span.row)
        return int(index.num_text_tokens[span.row]) + sum(tokens for tokens, _ in images)

    def num_labels(self, span: SampleSpan) -> float | None:
        """Return the tokens with loss in a span (of a cut document: a proportional part); None if they were not counted."""
        index = self._index_of(span)
        if index.num_label_tokens is None:
            return None
        num_labels, all_tokens = int(index.num_label_tokens[span.row]), int(index.num_text_tokens[span.row])
        if not self.is_cut(span):
            return num_labels
        tokens, tiles = np.sum(self.tiles.images(index, span.row), axis=0).tolist() if span.num_images else (0, 1)
        num_text_tokens = min(all_tokens, span.stop - span.start - round(span.num_images * tokens / tiles))
        return num_text_tokens * num_labels / all_tokens

    def first_epoch(self, most: int = sys.maxsize) -> Iterator[list[SampleSpan]]:
        """Yield the sequences that begin in the first epoch: each document occurs in them.

        Args:
            most: maximum number of sequences.
        """
        numbers = takewhile(lambda number: self.cursor(number).epoch == 0, range(most))
        return (self.sequence(number) for number in numbers)

    def _index_of(self, span: SampleSpan) -> ShardIndex:
        return self.indexes[self._shard_of[span.source, span.shard]]

    def _find(self, number: int) -> _PackedWindow:
        if number < self._cursors[0].first:
            self._cursors = [Cursor(0, 0, 0)]
        if self._window is None or number < self._window.cursor.first:
            nearest = max(cursor for cursor in self._cursors if cursor.first <= number)
            self._window = self._pack(nearest)
        while not self._window.reaches(number - self._window.cursor.first):
            epoch, window, first = self._window.cursor
            last = window + 1 == self.order.num_windows(epoch)
            cursor = Cursor(epoch + last, 0 if last else window + 1, first + len(self._window.groups))
            self._cursors.append(cursor)
            self._window = self._pack(cursor)
        return self._window

    def _pack(self, cursor: Cursor) -> _PackedWindow:
        shards, rows = self.order.rows(cursor.epoch, cursor.window)
        tokens, images = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        for shard in np.unique(shards).tolist():
            mask = shards == shard
            all_tokens, all_images = self.tiles.lengths(self.indexes[shard])
            tokens[mask], images[mask] = all_tokens[rows[mask]], all_images[rows[mask]]
        table = np.stack([shards, rows, np.zeros_like(rows), tokens, images], axis=1)
        too_long = self._too_long(tokens, images)
        if self.drop_long:
            table = table[~too_long]
        elif too_long.any():
            table = self._cut(table, np.flatnonzero(too_long).tolist())
        return _PackedWindow(cursor, table, self.limits)

    def _too_long(self, tokens: Lengths, images: Lengths) -> Any:
        return (tokens > self.limits.sequence_length) | (images > self.limits.max_images)

    def _cut(self, table: np.ndarray[Any, np.dtype[np.int64]], too_long: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        tables, after = [], 0
        for index in too_long:
            shard, row = int(table[index, 0]), int(table[index, 1])
            document = self.indexes[shard]
            cuts: list[Span] = cut_document(document.parts(row), self.limits, self.tiles.images(document, row))
            tables += [table[after:index], np.asarray([(shard, row, *cut) for cut in cuts], np.int64)]
            after = index + 1
        return np.concatenate([*tables, table[after:]])


class _PackedWindow:
    """The sequences of a window, packed on demand."""

    def __init__(self, cursor: Cursor, table: np.ndarray[Any, np.dtype[np.int64]], limits: PackingLimits) -> None:
        self.cursor = cursor
        self.groups: list[list[int]] = []
        self._table = table
        self._packing = pack(table[:, 3] - table[:, 2], table[:, 4], limits)

    def reaches(self, index: int) -> bool:
        """Whether the window has a sequence with this index."""
        if index >= len(self.groups):
            self.groups += islice(self._packing, index + 1 - len(self.groups))
        return index < len(self.groups)

    def sequence(self, index: int) -> list[list[int]]:
        """Return shard, row, start, stop and number of images of each span."""
        rows: list[list[int]] = self._table[self.groups[index]].tolist()
        return rows


class MixturePlan:
    """The endless sequences of a mixture. Thread-safe.

    Args:
        mixture: order of the sources; None for a single stream whose sequences mix sources.
        streams: one per source, None for a source of weight zero; or the single stream.
    """

    def __init__(self, mixture: Mixture | None, streams: Sequence[SourceStream | None]) -> None:
        self.mixture = mixture
        self.streams = list(streams)
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> PlannedSequence:
        source, index = self.mixture.locate(number) if self.mixture else (0, number)
        stream = self.streams[source]
        if stream is None:
            raise DataError(f"source {source} has no data")
        with self._lock:
            spans = stream.sequence(index)
        return PlannedSequence(source if self.mixture else _main_source(spans), spans)

    def is_cut(self, span: SampleSpan) -> bool:
        """Whether a span is only part of its document."""
        stream = self.streams[span.source if self.mixture else 0]
        return stream is not None and stream.is_cut(span)

    def num_labels(self, span: SampleSpan) -> float | None:
        """Return the tokens with loss in a span; see :meth:`SourceStream.num_labels`."""
        stream = self.streams[span.source if self.mixture else 0]
        return stream.num_labels(span) if stream else None

    def cursors(self, number: int) -> dict[str, list[int]]:
        """Return the cursor of each source at sequence ``number``: plain data for a checkpoint."""
        with self._lock:
            counts = self.mixture.counts(number) if self.mixture else [number]
            places = zip(self.streams, counts, strict=True)
            return {stream.name: list(stream.cursor(position)) for stream, position in places if stream}

    def seek(self, cursors: Mapping[str, Sequence[int]]) -> None:
        """Continue from recorded cursors; they are only a shortcut and do not affect the order."""
        with self._lock:
            for stream in filter(None, self.streams):
                if stream.name in cursors:
                    epoch, window, first = cursors[stream.name]
                    stream.seek(Cursor(epoch, window, first))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._lock = threading.Lock()


def _main_source(spans: Sequence[SampleSpan]) -> int:
    tokens: dict[int, int] = {}
    for span in spans:
        tokens[span.source] = tokens.get(span.source, 0) + span.stop - span.start
    return max(sorted(tokens), key=tokens.__getitem__)
