"""Asynchronous checkpoints of a run: copied while training waits, written while it continues.

    model, optimizer (every rank) -> copies in host memory, at once -> training continues
        meanwhile, on a thread: files -> digests -> synced to disk -> rank 0 collects the list of files -> manifest -> pointer

A checkpoint becomes visible when all of it is durable. Only one is written at a time; the next waits. An error on the thread
ends the run at its next step. Ranks wait for each other's files through :class:`mm1.train.ranks.Ranks`, never in a collective,
so a slow store delays a run and does not end it.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mm1.checkpoint.adapters import adapter_names, is_adapted, put_adapted
from mm1.checkpoint.pieces import StatePiece
from mm1.checkpoint.resume import publish_checkpoint
from mm1.checkpoint.write import put_model, put_rank_state, put_run_state
from mm1.data.load.loader import MixtureLoader
from mm1.manifests import Checkpoint, Files, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import BlobRef, Store
from mm1.train.config import TrainJob
from mm1.train.engine import Engine, Tensors
from mm1.train.history import History
from mm1.train.optimizer_state import OptimizerState
from mm1.train.pauses import pause
from mm1.train.progress import Progress
from mm1.train.ranks import Ranks, storage_limit_s
from mm1.train.vision.tower import TowerModel

WEIGHT_BYTES, STATE_BYTES = 4, 12
"""Bytes per parameter that rank 0 writes at most, and that all ranks together write of AdamW's state in float32."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the run's state that no further step changes."""

    progress: Progress
    rows: int
    """Rows of the history."""
    loader: dict[str, Any]
    weights: Tensors
    """The whole model's weights on rank 0, or those of its adapters; else empty."""
    state: OptimizerState | None
    """This rank's part; None in a finished checkpoint, except with ``train.keep_state``."""
    final: bool
    """Whether the run ends with this checkpoint."""
    taken: float
    """Clock at the copy: ``time.perf_counter()``, s."""


class SavedStep(NamedTuple):
    """A step whose state is durable."""

    step: int
    taken: float
    """Clock when its state was copied: ``time.perf_counter()``, s."""


class HostBuffers:
    """Copies tensors into host memory that is allocated once and reused by each checkpoint."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def copy(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor; valid until the next copy of this name, and with a GPU only after a synchronisation."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)


class Checkpoints:
    """Saves the checkpoints of a run; every rank has an instance, and all call it at the same steps.

    Args:
        job: the job of the run.
        store: store for checkpoints.
        model: the model that is trained.
        processor: its processor.
        engine: its optimizer.
        loader: provides the position in the data.
        history: rows of the run.
        ranks: all processes of the run.
        model_files: of the run's last checkpoint, previous processes included; of an adapted model at least those of its base.
        num_parameters: of the model.
        temporary: has trained parts that the published model lacks; their weights belong to the state to resume from.
    """

    def __init__(
        self,
        *,
        job: TrainJob,
        store: Store,
        model: MM1ForConditionalGeneration,
        processor: MM1Processor,
        engine: Engine,
        loader: MixtureLoader,
        history: History,
        ranks: Ranks,
        model_files: Files | None,
        num_parameters: int,
        temporary: TowerModel | None = None,
    ) -> None:
        self.job, self.store = job, store
        self.ranks, self.rank = ranks, ranks.rank
        self.model, self.processor, self.engine = model, processor, engine
        self.loader, self.history = loader, history
        self.model_files = model_files
        self._is_adapted = is_adapted(model)
        self.num_parameters, self.temporary = num_parameters, temporary
        self.stalled_s = 0.0
        """Time that training waited for checkpoints, seconds."""
        self.saved: SavedStep | None = None
        """The newest checkpoint of this process that is durable; None before the first one."""
        self._buffers = HostBuffers()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mm1-checkpoint")
        self._background = ranks.channel("checkpoint")
        self._num_bytes = num_parameters * (WEIGHT_BYTES + STATE_BYTES // ranks.world_size)
        self._writing: Future[str] | None = None

    def save(self, progress: Progress) -> None:
        """Start saving a checkpoint to resume from."""
        started = time.perf_counter()
        with self.engine.phases("checkpoint"):
            snapshot = self._snapshot(progress, final=False)
            self._writing = self._thread.submit(self._write, snapshot)
        self.stalled_s += time.perf_counter() - started

    def finish(self, progress: Progress) -> str:
        """Save the finished checkpoint.

        Returns:
            Address of its manifest on rank 0, an empty string on the others; on all of them when it is published.
        """
        started = time.perf_counter()
        self._writing = self._thread.submit(self._write, self._snapshot(progress, final=True))
        uri = self.wait()
        self.stalled_s += time.perf_counter() - started
        return uri

    def wait(self) -> str:
        """Wait until the checkpoint that is being written is durable, on all ranks; raise its error if it failed.

        Returns:
            Address of its manifest on rank 0; otherwise an empty string.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return ""
        with pause("writing a checkpoint", storage_limit_s(self._num_bytes), self.rank):
            return writing.result()

    def check(self) -> None:
        """Raise the error of a checkpoint that failed, without waiting for one that is being written."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def _snapshot(self, progress: Progress, *, final: bool) -> Snapshot:
        self.wait()
        # Rank 0 may still be storing other files of the run, such as its rows; gathering the weights is a collective.
        with pause("storing the files of the run", storage_limit_s(0), self.rank):
            self.ranks.meet(f"storing the files of the run up to step {progress.step}")
        weights = self.engine.weights(adapter_names(self.model) if self._is_adapted else None)
        if weights is None:  # the model itself has them
            own = self._own_weights() if self.rank == 0 else {}
            weights = {name: self._buffers.copy(f"weights {name}", tensor) for name, tensor in own.items()}
        state = self._copy(self._state()) if not final or self.job.config.train.keep_state else None
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        progress = Progress(**dataclasses.asdict(progress))
        rows, loader = len(self.history.rows), self.loader.state_dict()
        return Snapshot(progress, rows, loader, weights, state, final, taken=time.perf_counter())

    def _own_weights(self) -> Tensors:
        """Return the weights to save: of an adapted model only those of its adapters."""
        weights = dict(self.model.named_parameters())  # a tied weight appears once
        return {name: weights[name] for name in adapter_names(self.model)} if self._is_adapted else weights

    def _state(self) -> OptimizerState:
        state = self.engine.state()
        own = self.temporary.temporary_pieces() if self.temporary is not None and self.rank == 0 else []
        return dataclasses.replace(state, pieces=[*state.pieces, *own])

    def _copy(self, state: OptimizerState) -> OptimizerState:
        pieces = [dataclasses.replace(piece, tensor=self._buffers.copy(_name(piece), piece.tensor)) for piece in state.pieces]
        return dataclasses.replace(state, pieces=pieces)

    def _write(self, snapshot: Snapshot) -> str:
        """Make a snapshot durable; runs on the thread of every rank, and returns when the manifest is published."""
        doing = f"writing the checkpoint of step {snapshot.progress.step}"
        try:
            uri = self._put(snapshot, doing)
        except BaseException as error:
            self._background.fail(error)
            raise
        self._background.meet(doing, self._num_bytes)
        self.saved = SavedStep(snapshot.progress.step, snapshot.taken)
        return uri

    def _put(self, snapshot: Snapshot, doing: str) -> str:
        self.store.scratch().mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"checkpoint-{self.rank}-", dir=self.store.scratch()))
        try:
            with ThreadPoolExecutor(1) as executor:  # two files at a time: hashing takes as long as writing
                model = executor.submit(self._write_model, snapshot, scratch / "model") if self.rank == 0 else None
                own = self._write_state(snapshot.state, scratch / "trainer") if snapshot.state is not None else {}
            refs = {name: ref.model_dump() for name, ref in own.items()}
            collected = self._background.collect(refs, doing, self._num_bytes)
            trainer = {name: BlobRef(**ref) for files in collected for name, ref in files.items()}
            return self._publish(snapshot, trainer, model.result()) if model is not None else ""
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _write_model(self, snapshot: Snapshot, folder: Path) -> Files:
        if self._is_adapted:
            assert self.model_files is not None, "the base of adapters is stored before the first step"
            self.model_files = put_adapted(self.store, self.model, folder, self.model_files, snapshot.weights)
        else:
            self.model_files = put_model(self.store, self.model, self.processor, folder, self.model_files, snapshot.weights)
        return self.model_files

    def _write_state(self, state: OptimizerState, folder: Path) -> Files:
        """Write this rank's files."""
        world_size = self.engine.batch_plan.world_size
        return put_rank_state(self.store, self.rank, world_size, state.pieces, state.numbers, state.scalars, folder)

    def _publish(self, snapshot: Snapshot, trainer: Files, files: Files) -> str:
        job, progress = self.job, snapshot.progress
        if trainer:
            state = {"progress": vars(progress), "loader": snapshot.loader, "code": job.code}
            trainer = {**trainer, **put_run_state(self.store, state)}
        parents = [split_uri(uri)[1] for uri in (job.data, job.init, job.resume) if uri]
        checkpoint = Checkpoint(
            parents=tuple(parents),
            stage=job.config.stage,
            recipe=job.config.recipe,
            config=job.config.model_dump(mode="json"),
            step=progress.step,
            total_steps=progress.total_steps,
            sequences_seen=progress.step * self.engine.batch_plan.global_batch,
            tokens_seen=progress.tokens,
            images_seen=progress.images,
            skipped=tuple(progress.skipped),
            world_size=self.engine.batch_plan.world_size,
            num_parameters=self.num_parameters,
            model=files,
            trainer=trainer,
            final=snapshot.final and bool(trainer),
            history=self.store.put_bytes(self.history.to_parquet(snapshot.rows)),
        )
        return publish_checkpoint(self.store, job.key, checkpoint, job.config.train.keep_checkpoints)


def _name(piece: StatePiece) -> str:
    return f"{piece.key} {piece.name} {piece.offset}"
