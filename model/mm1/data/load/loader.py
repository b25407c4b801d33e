"""The loader: from a frozen mixture to batches, resumable at any sequence on any number of ranks.

    numbers of this rank's next micro-batch -> MixturePlan: spans -> ShardReader: samples -> documents -> Collator -> batch

Sequence i of the endless order belongs to global batch ``i // global_batch``; within a global batch the ranks take contiguous
slices. A batch is a pure function of its sequence numbers, so it makes no difference who prepares it: a thread
(``num_workers=0``) or worker processes, into memory that they share with this one. The plan is made here; workers get spans.
The state is the number of the next sequence, with a cursor per source that spares packing what came before.

A damaged sample is left out (its place is padding), named in the log and counted; too many end the run.
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
from mm1.data.load.workers import Bytes, Filled, Workers
from mm1.data.sample import Sample
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix, RawData
from mm1.store.base import Store

log = logging.getLogger(__name__)

SampleId = tuple[int, int, int]
"""Source, shard, row."""
PlainSequences = list[tuple[int, list[tuple[int, ...]]]]
"""Planned sequences as plain tuples: to unpickle named ones takes a worker 50 microseconds a sequence."""


class Prepared(NamedTuple):
    """How a micro-batch was prepared."""

    num_images: int
    num_read: int
    """Samples read (not taken from memory)."""
    damaged: list[str]
    """What was wrong with each sample that was left out."""


class MicroBatches:
    """Planned sequences -> micro-batch in a buffer.

    Args:
        opened: the mixture's shards and tokenizer.
        collator: fills the arrays.
        shape: of the arrays.
    """

    def __init__(self, opened: OpenMix, collator: Collator, shape: BatchShape) -> None:
        self.opened = opened
        self.collator = collator
        self.shape = shape
        self._kept: dict[SampleId, Document | DataError] = {}

    def __call__(self, task: PlainSequences, slot: Bytes) -> Prepared:
        """Read, decode and pack the sequences of a task into a buffer."""
        planned = [_planned(sequence) for sequence in task]
        wanted = dict.fromkeys(_id(span) for sequence in planned for span in sequence.spans)
        documents = {sample: self._kept[sample] for sample in wanted if sample in self._kept}
        missing = [sample for sample in wanted if sample not in documents]
        fresh = self._load(missing)
        documents |= fresh
        if self.collator.keep:
            self._kept |= fresh
        rows = [[*_spans(sequence, documents)] for sequence in planned]
        damaged = [str(document) for document in fresh.values() if isinstance(document, DataError)]
        sources = [sequence.source for sequence in planned]
        num_images, undecodable = self.collator.fill(self.shape.arrays(slot), rows, sources)
        return Prepared(num_images, len(missing), damaged + undecodable)

    def ahead(self, task: PlainSequences) -> None:
        """Fetch what a task will read, where it comes over the network."""
        for sequence in task:
            for span in _planned(sequence).spans:
                self.opened.ahead(*_id(span))

    def _load(self, wanted: Sequence[SampleId]) -> dict[SampleId, Document | DataError]:
        samples: dict[SampleId, Sample] = {}
        loaded: dict[SampleId, Document | DataError] = {}
        for sample_id in wanted:
            try:
                samples[sample_id] = self.opened.read(*sample_id)
            except DataError as error:
                loaded[sample_id] = error
        documents = build_documents(list(samples.values()), self.opened.tokenizer, self.opened.mix.image_tokens)
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
    """Endless micro-batches of one rank, in global order.

    Args:
        store: holds the shards and the tokenizer.
        mix: the mixture.
        raw: the data that it was made from.
        micro_batch: sequences of one micro-batch.
        global_batch: sequences of one optimiser step over all ranks.
        rank: number of this process.
        world_size: number of processes.
        start_sequence: number of the first sequence, a multiple of ``global_batch``.
        num_workers: worker processes; 0 = a thread of this process (enough for small images).
        limits: memory and tolerance.
        cursors: from a former ``state_dict``; spares packing what came before.

    Attributes:
        num_read: samples read so far.
        num_damaged: samples left out so far.

    Raises:
        ConfigurationError: the batch sizes do not divide.
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
        _check_sizes(micro_batch, global_batch, rank, world_size, start_sequence)
        self.micro_batch, self.global_batch = micro_batch, global_batch
        self.rank, self.world_size = rank, world_size
        self.num_workers = num_workers
        self.limits = limits or LoaderLimits()
        self.num_read = self.num_damaged = 0
        self._start = start_sequence
        self._handed_over = 0
        self._last_damage = ""
        self._opened = open_mix(store, mix, raw, self.limits.cache_disk_bytes)
        self._opened.plan.seek(cursors or {})
        collator = Collator(
            image_tokens=mix.image_tokens,
            image_id=self._opened.tokenizer.image_id,
            padding_id=self._opened.tokenizer.eos_id,
            keep=self._opened.decoded_bytes() * max(1, num_workers) <= self.limits.cache_bytes,
        )
        self._shape = BatchShape(micro_batch, mix.sequence_length, mix.max_images, mix.image_size_px)
        self._prepare = MicroBatches(self._opened, collator, self._shape)

    def __iter__(self) -> Iterator[Batch]:
        """Micro-batches from the current position on, without end.

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
        """Where to go on: the first sequence of the global batch that was not handed over completely, and cursors into it."""
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

    def _from_thread(self) -> Generator[Filled, None, None]:
        def prepare(task: PlainSequences) -> Filled:
            slot = np.empty(self._shape.num_bytes, np.uint8)
            return Filled(slot, self._prepare(task, slot))

        tasks = self._tasks()
        executor = ThreadPoolExecutor(1, thread_name_prefix="mm1-loader")
        try:
            waiting: deque[Future[Filled]] = deque()
            while True:
                while len(waiting) <= self.limits.prefetch_batches:
                    task = next(tasks)
                    self._prepare.ahead(task)
                    waiting.append(executor.submit(prepare, task))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _from_workers(self) -> Generator[Filled, None, None]:
        workers = Workers(self._prepare, self.num_workers, self._shape.num_bytes, self.limits.prefetch_batches)
        yield from workers.run(self._tasks())

    def _count(self, num_read: int, damaged: Sequence[str]) -> None:
        for message in damaged:
            log.warning("left out: %s", message)
        self.num_read += num_read
        self.num_damaged += len(damaged)
        self._last_damage = damaged[-1] if damaged else self._last_damage
        share = self.num_damaged / max(1, self.num_read)
        if self.num_read >= self.limits.min_read_samples and share > self.limits.max_damaged_share:
            raise DataError(
                f"{self.num_damaged} of {self.num_read} samples are damaged, more than the share of "
                f"{self.limits.max_damaged_share:g} that is put up with; the last one: {self._last_damage}"
            )


def _check_sizes(micro_batch: int, global_batch: int, rank: int, world_size: int, start_sequence: int) -> None:
    if min(micro_batch, global_batch, world_size) < 1 or not 0 <= rank < world_size:
        raise ConfigurationError(f"loader: micro_batch {micro_batch}, global_batch {global_batch}, rank {rank} of {world_size}")
    if global_batch % (world_size * micro_batch):
        raise ConfigurationError(
            f"global_batch: {global_batch} sequences do not divide into {world_size} ranks with micro-batches of {micro_batch}"
        )
    if start_sequence % global_batch:
        raise ConfigurationError(f"start_sequence: {start_sequence} is not a multiple of global_batch {global_batch}")
