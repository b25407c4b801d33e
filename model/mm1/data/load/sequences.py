"""The plan of a mixture: sequence number -> the spans of documents in it. A pure function; reads indexes, never samples.

    i -> Mixture: (source, its j-th sequence) -> SourceStream: window of SampleOrder -> cut, pack -> spans

To find sequence j of a source, the windows before its own must have been packed (lengths only, some microseconds a sample).
A *cursor* remembers where a window begins, so that a resumed loader starts there at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mm1.data.load.mixture import Mixture
from mm1.data.load.order import MixedOrder, SampleOrder
from mm1.data.load.packing import Lengths, PackingLimits, Span, cut_document, pack
from mm1.data.reader import ShardIndex
from mm1.errors import DataError


class SampleSpan(NamedTuple):
    """A document of a shard, or a part of one, in a sequence."""

    shard: int
    row: int
    start: int
    """First token, in the document's tokens with all image tokens."""
    stop: int
    num_images: int
    source: int
    """Which of the mixture's sources the document is of."""


class PlannedSequence(NamedTuple):
    """What goes into one sequence."""

    source: int
    """Its source; of a sequence of several sources the one with most tokens."""
    spans: list[SampleSpan]


class Cursor(NamedTuple):
    """The beginning of a window."""

    epoch: int
    window: int
    first: int
    """Number of the window's first sequence within its source."""


class SourceStream:
    """The endless packed sequences of one source, or of several that share sequences.

    Args:
        name: the source's name.
        indexes: of its shards.
        limits: of a sequence.
        order: order of its samples.
        drop_long: leave documents out that are longer than a sequence, in place of cutting them.
        places: of each shard, its source and its number there.
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
    ) -> None:
        self.name = name
        self.indexes = list(indexes)
        self.limits = limits
        self.order = order
        self.drop_long = drop_long
        self.places = list(places or ((0, shard) for shard in range(len(self.indexes))))
        self._shard_of = {place: shard for shard, place in enumerate(self.places)}
        self.num_samples = sum(map(len, self.indexes))
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
        """Documents that no sequence holds as a whole."""
        return sum(int(self._too_long(*self._lengths(index)).sum()) for index in self.indexes)

    def seek(self, cursor: Cursor) -> None:
        """Go on from a remembered window instead of packing all before it."""
        self._cursors = [cursor]
        self._window = None

    def cursor(self, number: int) -> Cursor:
        """The window in which a sequence lies."""
        return self._find(number).cursor

    def sequence(self, number: int) -> list[SampleSpan]:
        """The spans of the source's sequence ``number``."""
        window = self._find(number)
        rows = window.sequence(number - window.cursor.first)
        return [
            SampleSpan(self.places[shard][1], row, start, stop, num_images, self.places[shard][0])
            for shard, row, start, stop, num_images in rows
        ]

    def is_cut(self, span: SampleSpan) -> bool:
        """Whether a span is only a part of its document."""
        index = self.indexes[self._shard_of[span.source, span.shard]]
        tokens = int(index.num_text_tokens[span.row]) + int(index.num_images[span.row]) * self.limits.image_tokens
        return span.stop - span.start < tokens

    def _find(self, number: int) -> _PackedWindow:
        if number < self._cursors[0].first:
            self._cursors = [Cursor(0, 0, 0)]
        if self._window is None or number < self._window.cursor.first:
            known = max(cursor for cursor in self._cursors if cursor.first <= number)
            self._window = self._pack(known)
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
            here = shards == shard
            all_tokens, all_images = self._lengths(self.indexes[shard])
            tokens[here], images[here] = all_tokens[rows[here]], all_images[rows[here]]
        table = np.stack([shards, rows, np.zeros_like(rows), tokens, images], axis=1)
        too_long = self._too_long(tokens, images)
        if self.drop_long:
            table = table[~too_long]
        elif too_long.any():
            table = self._cut(table, np.flatnonzero(too_long).tolist())
        return _PackedWindow(cursor, table, self.limits)

    def _lengths(self, index: ShardIndex) -> tuple[Lengths, Lengths]:
        """Tokens, image tokens included, and images of a shard's documents."""
        images = index.num_images.astype(np.int64)
        return index.num_text_tokens + images * self.limits.image_tokens, images

    def _too_long(self, tokens: Lengths, images: Lengths) -> Any:
        return (tokens > self.limits.sequence_length) | (images > self.limits.max_images)

    def _cut(self, table: np.ndarray[Any, np.dtype[np.int64]], too_long: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        tables, after = [], 0
        for place in too_long:
            shard, row = int(table[place, 0]), int(table[place, 1])
            cuts: list[Span] = cut_document(self.indexes[shard].parts(row), self.limits)
            tables += [table[after:place], np.asarray([(shard, row, *cut) for cut in cuts], np.int64)]
            after = place + 1
        return np.concatenate([*tables, table[after:]])


class _PackedWindow:
    """The sequences of a window, packed as far as they were asked for."""

    def __init__(self, cursor: Cursor, table: np.ndarray[Any, np.dtype[np.int64]], limits: PackingLimits) -> None:
        self.cursor = cursor
        self.groups: list[list[int]] = []
        self._table = table
        self._packing = pack(table[:, 3] - table[:, 2], table[:, 4], limits)

    def reaches(self, place: int) -> bool:
        """Whether the window has a sequence of that place."""
        if place >= len(self.groups):
            self.groups += islice(self._packing, place + 1 - len(self.groups))
        return place < len(self.groups)

    def sequence(self, place: int) -> list[list[int]]:
        """Shard, row, start, stop, images of each span."""
        rows: list[list[int]] = self._table[self.groups[place]].tolist()
        return rows


class MixturePlan:
    """The endless sequences of a mixture. Safe to use from several threads.

    Args:
        mixture: order of the sources; None for one stream whose sequences hold documents of several sources.
        streams: one per source, None for a source of weight zero; or the one stream.
    """

    def __init__(self, mixture: Mixture | None, streams: Sequence[SourceStream | None]) -> None:
        self.mixture = mixture
        self.streams = list(streams)
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> PlannedSequence:
        source, place = self.mixture.locate(number) if self.mixture else (0, number)
        stream = self.streams[source]
        if stream is None:
            raise DataError(f"source {source} has no data")
        with self._lock:
            spans = stream.sequence(place)
        return PlannedSequence(source if self.mixture else _main_source(spans), spans)

    def is_cut(self, span: SampleSpan) -> bool:
        """Whether a span is only a part of its document."""
        stream = self.streams[span.source if self.mixture else 0]
        return stream is not None and stream.is_cut(span)

    def cursors(self, number: int) -> dict[str, list[int]]:
        """Where each source stands when sequence ``number`` comes next: plain data for a checkpoint."""
        with self._lock:
            counts = self.mixture.counts(number) if self.mixture else [number]
            places = zip(self.streams, counts, strict=True)
            return {stream.name: list(stream.cursor(place)) for stream, place in places if stream}

    def seek(self, cursors: Mapping[str, Sequence[int]]) -> None:
        """Go on from remembered cursors; what they say is only a short cut, the order does not depend on them."""
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
