"""The loader: from a frozen mixture to batches, resumable at any sequence on any number of ranks.

    numbers of this rank's next micro-batch -> MixturePlan: pieces -> ShardReader: samples -> documents -> Collator -> batch

Sequence i of the endless order belongs to global batch ``i // global_batch``; within a global batch the ranks take contiguous
slices. A batch is a pure function of its sequence numbers, so it makes no difference who prepares it: a thread
(``num_workers=0``) or the worker processes of torch's DataLoader. The state is the number of the next sequence.

A damaged sample is left out (its place is padding), named in the log and counted; too many end the run.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from mm1.data.collate import Batch, Collator
from mm1.data.config import LoaderLimits
from mm1.data.documents import Document, build_documents
from mm1.data.open import OpenMix, open_mix
from mm1.data.plan import Piece, PlannedSequence
from mm1.data.sample import Sample
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix, RawData
from mm1.store.base import Store

log = logging.getLogger(__name__)

SampleId = tuple[int, int, int]
"""Source, shard, row."""


class Prepared(NamedTuple):
    """A micro-batch, and how the reading went."""

    batch: Batch
    num_read: int
    """Samples read (not taken from memory)."""
    damaged: list[str]
    """What was wrong with each sample that was left out."""


class MicroBatches(Dataset[Prepared]):
    """Sequence numbers -> micro-batch.

    Args:
        opened: the mixture's plan, shards and tokenizer.
        collator: makes the tensors.
        keep: whether decoded samples stay in memory.
    """

    def __init__(self, opened: OpenMix, collator: Collator, *, keep: bool) -> None:
        self.opened = opened
        self.collator = collator
        self.keep = keep
        self._kept: dict[SampleId, Document | DataError] = {}

    def __getitem__(self, numbers: range) -> Prepared:
        planned = [self.opened.plan[number] for number in numbers]
        wanted = dict.fromkeys(_id(sequence, piece) for sequence in planned for piece in sequence.pieces)
        documents = {sample: self._kept[sample] for sample in wanted if sample in self._kept}
        missing = [sample for sample in wanted if sample not in documents]
        fresh = self._load(missing)
        documents |= fresh
        if self.keep:
            self._kept |= fresh
        rows = [
            [document for piece in sequence.pieces if (document := _stretch(documents[_id(sequence, piece)], piece))]
            for sequence in planned
        ]
        damaged = [str(document) for document in fresh.values() if isinstance(document, DataError)]
        return Prepared(self.collator(rows, [sequence.source for sequence in planned]), len(missing), damaged)

    def _load(self, wanted: Sequence[SampleId]) -> dict[SampleId, Document | DataError]:
        samples: dict[SampleId, Sample] = {}
        loaded: dict[SampleId, Document | DataError] = {}
        for sample_id in wanted:
            try:
                samples[sample_id] = self.opened.read(*sample_id)
            except DataError as error:
                loaded[sample_id] = error
        mix, tokenizer = self.opened.mix, self.opened.tokenizer
        documents = build_documents(list(samples.values()), tokenizer, mix.image_tokens, mix.image_size_px)
        for sample_id, document in zip(samples, documents, strict=True):
            fits = isinstance(document, DataError) or len(document.ids) == self.opened.num_tokens(*sample_id)
            mismatch = DataError(f"sample {samples[sample_id].key}: the index does not match its tokens")
            loaded[sample_id] = document if fits else mismatch
        return loaded


def _id(sequence: PlannedSequence, piece: Piece) -> SampleId:
    return sequence.source, piece.shard, piece.row


def _stretch(document: Document | DataError, piece: Piece) -> Document | None:
    if isinstance(document, DataError):
        return None
    whole = piece.start == 0 and piece.stop == len(document.ids)
    return document if whole else document.cut(piece.start, piece.stop)


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
        image_mean: mean of each channel, of values in [0, 1].
        image_std: standard deviation of each channel.
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
        image_mean: Sequence[float],
        image_std: Sequence[float],
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
        self._opened = open_mix(store, mix, raw)
        self._opened.plan.seek(cursors or {})
        collator = Collator(
            sequence_length=mix.sequence_length,
            image_tokens=mix.image_tokens,
            image_id=self._opened.tokenizer.image_id,
            padding_id=self._opened.tokenizer.eos_id,
            image_mean=image_mean,
            image_std=image_std,
        )
        keep = self._opened.decoded_bytes() * max(1, num_workers) <= self.limits.cache_bytes
        self._batches = MicroBatches(self._opened, collator, keep=keep)

    def __iter__(self) -> Iterator[Batch]:
        """Micro-batches from the current position on, without end.

        Raises:
            DataError: too many samples are damaged.
        """
        self._start, self._handed_over = self._next_sequence(), 0
        prepared = self._from_workers() if self.num_workers else self._from_thread()
        try:
            for batch, num_read, damaged in prepared:
                self._count(num_read, damaged)
                self._handed_over += 1
                yield batch
        finally:
            prepared.close()

    def state_dict(self) -> dict[str, Any]:
        """Where to go on: the first sequence of the global batch that was not handed over completely, and cursors into it."""
        sequence = self._next_sequence()
        return {"sequence": sequence, "cursors": self._opened.plan.cursors(sequence)}

    def _next_sequence(self) -> int:
        per_global = self.global_batch // self.world_size // self.micro_batch
        return self._start + self._handed_over // per_global * self.global_batch

    def _numbers(self) -> Iterator[range]:
        per_rank = self.global_batch // self.world_size
        for first in count(self._start + self.rank * per_rank, self.global_batch):
            for start in range(first, first + per_rank, self.micro_batch):
                yield range(start, start + self.micro_batch)

    def _from_thread(self) -> Generator[Prepared, None, None]:
        numbers = self._numbers()
        executor = ThreadPoolExecutor(1, thread_name_prefix="mm1-loader")
        try:
            get: Callable[[range], Prepared] = self._batches.__getitem__
            waiting: deque[Future[Prepared]] = deque()
            while True:
                while len(waiting) <= self.limits.prefetch_batches:
                    waiting.append(executor.submit(get, next(numbers)))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _from_workers(self) -> Generator[Prepared, None, None]:
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=_Numbers(self._numbers()),
            num_workers=self.num_workers,
            multiprocessing_context="fork",  # the plan and the tokenizer are there at once
            prefetch_factor=max(1, self.limits.prefetch_batches),
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
        )
        yield from loader

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


class _Numbers:
    """A sampler for torch's DataLoader that goes on for ever."""

    def __init__(self, numbers: Iterator[range]) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[range]:
        return self._numbers


def _as_it_is(prepared: Any) -> Any:
    return prepared


def _begin_worker(worker: int) -> None:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read by the tokenizer's threads, which a forked process cannot use


def _check_sizes(micro_batch: int, global_batch: int, rank: int, world_size: int, start_sequence: int) -> None:
    if min(micro_batch, global_batch, world_size) < 1 or not 0 <= rank < world_size:
        raise ConfigurationError(f"loader: micro_batch {micro_batch}, global_batch {global_batch}, rank {rank} of {world_size}")
    if global_batch % (world_size * micro_batch):
        raise ConfigurationError(
            f"global_batch: {global_batch} sequences do not divide into {world_size} ranks with micro-batches of {micro_batch}"
        )
    if start_sequence % global_batch:
        raise ConfigurationError(f"start_sequence: {start_sequence} is not a multiple of global_batch {global_batch}")
