"""A run in progress: the loop, and what makes checkpoints of it."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from mm1.checkpoint.resume import publish_checkpoint
from mm1.checkpoint.write import put_model, put_rank_state, put_run_state
from mm1.data.loader import MixtureLoader
from mm1.manifests import Checkpoint, DataMix, Files, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.train.callbacks.history import History
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.config import TrainJob, TrainResult
from mm1.train.engine import Engine, Tensors
from mm1.train.loop import Loop, Progress

log = logging.getLogger(__name__)

FINAL_LOSS_SHARE = 0.05
"""Share of the steps, at the end, that the reported losses are the mean of."""


class Run:
    """Everything of a run that outlives a step."""

    loop: Loop

    def __init__(
        self,
        job: TrainJob,
        store: Store,
        mix: DataMix,
        model: MM1ForConditionalGeneration,
        processor: MM1Processor,
        engine: Engine,
        loader: MixtureLoader,
        history: History,
        progress: Progress,
        speed: ProgressLines,
    ) -> None:
        self.job = job
        self.store = store
        self.mix = mix
        self.model = model
        self.processor = processor
        self.engine = engine
        self.loader = loader
        self.history = history
        self.progress = progress
        self.speed = speed
        self.rank = speed.rank
        self.model_files: Files | None = None
        """Files of the run's last checkpoint, former processes included."""
        self.checkpoint_s = 0.0
        """Time that training stood still for checkpoints, seconds."""

    def go(self) -> TrainResult:
        """Train to the end and publish the finished checkpoint.

        Returns:
            Results; only those of rank 0 name the manifest.
        """
        started_after = self.progress.step
        self.loop.run()
        manifest = self._publish(final=True)
        speed, config = self.speed, self.job.config
        return TrainResult(
            manifest=manifest,
            steps=self.progress.step,
            resumed_from=started_after,
            seconds=speed.seconds,
            tokens=speed.tokens,
            tokens_per_s=speed.tokens / speed.seconds,
            padding_share=1 - speed.tokens / max(speed.positions, 1),
            losses=self.history.mean_losses(max(1, round(FINAL_LOSS_SHARE * config.train.steps))),
            facts={
                "processes": self.engine.layout.world_size,
                "micro_batch": self.engine.layout.micro_batch,
                "accumulation": self.engine.layout.accumulation,
                "num_parameters": self.engine.num_parameters,
                "trained_parameters": self.engine.num_trained,
                "peak_lr": self.history.peak_lr,
                "slowest_step_s": round(speed.slowest_step_s, 4),
                "checkpoint_s": round(self.checkpoint_s, 4),
                "damaged_samples": self.loader.num_damaged,
            },
        )

    def save(self) -> None:
        """Publish a checkpoint to resume from; called on all ranks at the same step."""
        self._publish(final=False)

    def _publish(self, *, final: bool) -> str:
        started = time.perf_counter()
        scratch = Path(self.job.folder) / f"rank-{self.rank}" / "checkpoint"
        shutil.rmtree(scratch, ignore_errors=True)
        trainer: Files = {}
        if not final:
            tensors, description = self.engine.state()
            own = put_rank_state(
                self.store, self.rank, self.engine.layout.world_size, tensors, description, scratch / "trainer"
            )
            for files in self.engine.gather(own):
                trainer |= files
        weights = self.engine.weights()
        uri = self._publish_manifest(scratch, trainer, weights) if self.rank == 0 else ""
        self.engine.gather(None)  # nobody goes on (or away) before the manifest is there
        self.checkpoint_s += time.perf_counter() - started
        return uri

    def _publish_manifest(self, scratch: Path, trainer: Files, weights: Tensors | None) -> str:
        job, progress = self.job, self.progress
        files = put_model(self.store, self.model, self.processor, scratch / "model", self.model_files, weights)
        self.model_files = files
        if trainer:
            state = {"progress": vars(progress), "loader": self.loader.state_dict()}
            trainer = {**trainer, **put_run_state(self.store, state)}
        parents = [split_uri(uri)[1] for uri in (job.data, job.init) if uri]
        checkpoint = Checkpoint(
            parents=tuple(parents),
            stage=job.config.stage,
            recipe=job.config.recipe,
            config=job.config.model_dump(mode="json"),
            step=progress.step,
            total_steps=progress.total_steps,
            sequences_seen=progress.step * self.engine.layout.global_batch,
            tokens_seen=progress.tokens,
            images_seen=progress.images,
            world_size=self.engine.layout.world_size,
            num_parameters=self.engine.num_parameters,
            model=files,
            trainer=trainer,
            history=self.store.put_bytes(self.history.to_parquet()),
        )
        return publish_checkpoint(self.store, job.key, checkpoint)
