"""The loader: batches from a frozen mixture, resumable at any sequence on any number of ranks.

    numbers of this rank's next micro-batch -> MixturePlan: spans -> ShardReader: samples -> documents -> Collator -> batch

Sequence i of the endless order belongs to global batch ``i // global_batch``. Within a global batch, each rank takes a
contiguous slice. A batch is a pure function of its sequence numbers, so it can be prepared anywhere: by a thread
(``num_workers=0``), or by worker processes that write to shared memory. The plan is made in this process; workers get spans.
The state is the number of the next sequence, with one cursor per source that avoids repacking everything before it.

Damaged samples are skipped (they become padding), logged and counted; too many of them end the run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from mm1.data.config import LoaderLimits
from mm1.data.load.collate import Batch, BatchShape, Collator, DocumentSpan, as_batch
from mm1.data.load.documents import Document, build_documents
from mm1.data.load.open_mix import OpenMix, open_mix
from mm1.data.load.sequences import PlannedSequence, SampleSpan
from mm1.data.load.workers import Bytes, FilledSlot, Workers
from mm1.data.sample import Sample
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix, RawData
from mm1.store.base import Store

log = logging.getLogger(__name__)

SampleId = tuple[int, int, int]
"""Source, shard, row."""
PlainSequences = list[tuple[int, list[tuple[int, ...]]]]
"""Planned sequences as plain tuples: unpickling named tuples takes a worker 50 microseconds per sequence."""


class Prepared(NamedTuple):
    """Statistics of a prepared micro-batch."""

    num_images: int
    num_read: int
    """Samples read (not from the in-memory cache)."""
    damaged: list[str]
    """Errors of the skipped samples."""


class MicroBatches:
    """Writes planned sequences as a micro-batch to a buffer.

    Args:
        opened: the opened mixture with its shards and tokenizer.
        collator: fills the arrays.
        shape: shape of the arrays.
    """

    def __init__(self, opened: OpenMix, collator: Collator, shape: BatchShape) -> None:
        self.opened = opened
        self.collator = collator
        self.shape = shape
        self._kept: dict[SampleId, Document | DataError] = {}

    def __call__(self, task: PlainSequences, slot: Bytes) -> Prepared:
        """Read, decode and pack a task's sequences into a buffer."""
        planned = [_planned(sequence) for sequence in task]
        sample_ids = dict.fromkeys(_id(span) for sequence in planned for span in sequence.spans)
        documents = {sample: self._kept[sample] for sample in sample_ids if sample in self._kept}
        missing = [sample for sample in sample_ids if sample not in documents]
        fresh = self._load(missing)
        documents |= fresh
        if self.collator.keep:
            self._kept |= fresh
        rows = [[*_spans(sequence, documents)] for sequence in planned]
        damaged = [str(document) for document in fresh.values() if isinstance(document, DataError)]
        sources = [sequence.source for sequence in planned]
        num_images, undecodable = self.collator.fill(self.shape.arrays(slot), rows, sources)
        return Prepared(num_images, len(missing), damaged + undecodable)

    def prefetch(self, task: PlainSequences) -> None:
        """Prefetch a task's samples if the store is remote."""
        if self.opened.is_local:
            return
        for sequence in task:
            for span in _planned(sequence).spans:
                self.opened.prefetch(*_id(span))

    def _load(self, sample_ids: Sequence[SampleId]) -> dict[SampleId, Document | DataError]:
        samples: dict[SampleId, Sample] = {}
        loaded: dict[SampleId, Document | DataError] = {}
        for sample_id in sample_ids:
            try:
                samples[sample_id] = self.opened.read(*sample_id)
            except DataError as error:
                loaded[sample_id] = error
        documents = build_documents(list(samples.values()), self.opened.tokenizer, self.opened.tiles)
        for sample_id, document in zip(samples, documents, strict=True):
            fits = isinstance(document, DataError) or len(document.ids) == self.opened.num_tokens(*sample_id)
            mismatch = DataError(f"sample {samples[sample_id].key}: the index does not match its tokens")
            loaded[sample_id] = document if fits else mismatch
        return loaded


def _planned(sequence: tuple[int, list[tuple[int, ...]]]) -> PlannedSequence:
    source, spans = sequence
    return PlannedSequence(source, [SampleSpan._make(span) for span in spans])


def _id(span: SampleSpan) -> SampleId:
    return span.source, span.shard, span.row


def _spans(sequence: PlannedSequence, documents: Mapping[SampleId, Document | DataError]) -> Iterator[DocumentSpan]:
    for span in sequence.spans:
        document = documents[_id(span)]
        if isinstance(document, Document):
            yield DocumentSpan(document, span.start, span.stop)


class MixtureLoader:
    """Endless iterator over the micro-batches of one rank, in global order.

    Args:
        store: the store with the shards and the tokenizer.
        mix: the mixture.
        raw: the RawData of the mixture.
        micro_batch: sequences per micro-batch.
        global_batch: sequences per optimizer step over all ranks.
        rank: rank of this process.
        world_size: number of processes.
        start_sequence: index of the first sequence, a multiple of ``global_batch``; :meth:`seek` changes it.
        num_workers: number of worker processes; 0 = a thread in this process (sufficient for small images).
        limits: limits on memory and damaged samples.
        cursors: from a previous ``state_dict``; avoids repacking all earlier sequences.

    Attributes:
        num_read: samples read so far.
        num_damaged: samples skipped so far.

    Raises:
        ConfigurationError: incompatible batch sizes.
    """

    def __init__(
        self,
        store: Store,
        mix: DataMix,
        raw: RawData,
        *,
        micro_batch: int,
        global_batch: int,
        rank: int,
        world_size: int,
        start_sequence: int = 0,
        num_workers: int = 0,
        limits: LoaderLimits | None = None,
        cursors: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        _check_sizes(micro_batch, global_batch, rank, world_size)
        self.micro_batch, self.global_batch = micro_batch, global_batch
        self.rank, self.world_size = rank, world_size
        self.num_workers = num_workers
        self.mix = mix
        self.limits = limits or LoaderLimits()
        self.num_read = self.num_damaged = 0
        self._last_damage = ""
        self._opened = open_mix(store, mix, raw, self.limits.cache_disk_bytes)
        self.seek(start_sequence, cursors)
        keep = self._opened.decoded_bytes() * max(1, num_workers) <= self.limits.cache_bytes
        collator = Collator.of_mixture(mix, self._opened.tokenizer, keep=keep)
        self._shape = BatchShape(micro_batch, mix.sequence_length, mix.max_images, mix.image_size_px)
        self._prepare = MicroBatches(self._opened, collator, self._shape)
        self._workers: Workers | None = None

    def start_workers(self) -> None:
        """Fork the worker processes now, and not at the first batch: before this process has threads and connections."""
        if self.num_workers and self._workers is None:
            self._workers = Workers(self._prepare, self.num_workers, self._shape.num_bytes, self.limits.prefetch_batches)

    def seek(self, sequence: int, cursors: Mapping[str, Sequence[int]] | None = None) -> None:
        """Continue at a sequence, as given by ``state_dict``; for a new iteration.

        Args:
            sequence: index of the next sequence, a multiple of ``global_batch``.
            cursors: from the same ``state_dict``.

        Raises:
            ConfigurationError: the sequence does not start a global batch.
        """
        if sequence % self.global_batch:
            raise ConfigurationError(f"start_sequence: {sequence} is not a multiple of global_batch {self.global_batch}")
        self._start, self._handed_over = sequence, 0
        self._opened.plan.seek(cursors or {})

    def close(self) -> None:
        """Stop the worker processes."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over micro-batches from the current position, without end.

        Raises:
            DataError: too many samples are damaged.
        """
        self._start, self._handed_over = self._next_sequence(), 0
        filled = self._from_workers() if self.num_workers else self._from_thread()
        try:
            for slot, (num_images, num_read, damaged) in filled:
                self._count(num_read, damaged)
                self._handed_over += 1
                yield as_batch(self._shape.arrays(slot), num_images)
                del slot
        finally:
            filled.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the position to resume from: the start of the first global batch not yet fully consumed, and its cursors."""
        sequence = self._next_sequence()
        return {"sequence": sequence, "cursors": self._opened.plan.cursors(sequence)}

    def _next_sequence(self) -> int:
        per_global = self.global_batch // self.world_size // self.micro_batch
        return self._start + self._handed_over // per_global * self.global_batch

    def _tasks(self) -> Iterator[PlainSequences]:
        per_rank = self.global_batch // self.world_size
        for first in count(self._start + self.rank * per_rank, self.global_batch):
            for start in range(first, first + per_rank, self.micro_batch):
                planned = (self._opened.plan[number] for number in range(start, start + self.micro_batch))
                yield [(source, [tuple(span) for span in spans]) for source, spans in planned]

    def _from_thread(self) -> Generator[FilledSlot, None, None]:
        def prepare(task: PlainSequences) -> FilledSlot:
            slot = np.empty(self._shape.num_bytes, np.uint8)
            return FilledSlot(slot, self._prepare(task, slot))

        tasks = self._tasks()
        executor = ThreadPoolExecutor(1, thread_name_prefix="mm1-loader")
        try:
            waiting: deque[Future[FilledSlot]] = deque()
            while True:
                while len(waiting) <= self.limits.prefetch_batches:
                    task = next(tasks)
                    self._prepare.prefetch(task)
                    waiting.append(executor.submit(prepare, task))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _from_workers(self) -> Generator[FilledSlot, None, None]:
        self.start_workers()
        workers, self._workers = self._workers, None
        assert workers is not None, "started"
        yield from workers.run(self._tasks())

    def _count(self, num_read: int, damaged: Sequence[str]) -> None:
        for message in damaged:
            log.warning("skipped: %s", message)
        self.num_read += num_read
        self.num_damaged += len(damaged)
        self._last_damage = damaged[-1] if damaged else self._last_damage
        share = self.num_damaged / max(1, self.num_read)
        if self.num_read >= self.limits.min_read_samples and share > self.limits.max_damaged_share:
            raise DataError(
                f"{self.num_damaged} of {self.num_read} samples are damaged, more than the share of "
                f"{self.limits.max_damaged_share:g} that is allowed; the last one: {self._last_damage}"
            )


def _check_sizes(micro_batch: int, global_batch: int, rank: int, world_size: int) -> None:
    if min(micro_batch, global_batch, world_size) < 1 or not 0 <= rank < world_size:
        raise ConfigurationError(
            f"invalid micro_batch {micro_batch}, global_batch {global_batch} or rank {rank} of {world_size}"
        )
    if global_batch % (world_size * micro_batch):
        raise ConfigurationError(
            f"global_batch: {global_batch} sequences are not divisible by {world_size} ranks x micro_batch {micro_batch}"
        )
