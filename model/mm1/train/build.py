"""Building a run: from a job to a loop that is ready to start, resumed from the newest checkpoint if there is one.

TrainJob -> Start (mixture, batch plan, newest checkpoint)
-> model -> engine, loader, history, [each with its state from that checkpoint] -> RunParts -> callbacks -> Loop -> Run
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mm1.checkpoint.read import TrainerState, load_model, load_state
from mm1.checkpoint.resume import newest_checkpoint, skipped_batches
from mm1.data.load.collate import Batch, PixelNorm
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.statistics import check_epochs
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix, RawData, load, load_digest, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.batch_plan import BatchPlan, plan_layout
from mm1.train.callback import Callback
from mm1.train.callbacks.metrics import Devices, Metrics
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.callbacks.timing import Timing
from mm1.train.callbacks.validation import Validation, held_out_batches
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import RunConfig, TrainJob
from mm1.train.engine import Engine, all_agree
from mm1.train.history import History
from mm1.train.loop import Loop
from mm1.train.model import Init, build_model, weights_dtype
from mm1.train.optim import freeze, num_decoder_parameters
from mm1.train.progress import Progress
from mm1.train.run import Run
from mm1.train.run_callbacks import FACTORIES, CallbackFactory
from mm1.train.run_parts import RunParts
from mm1.train.schedule import learning_rate_law, rate_factor
from mm1.train.step import TrainStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Starting point of a run."""

    job: TrainJob
    rank: int
    """This process."""
    store: Store
    """Store of the job."""
    mix: DataMix
    batch_plan: BatchPlan
    previous: Checkpoint | None
    """The newest checkpoint of this work."""
    state: TrainerState | None
    """The trainer's state in it."""

    @property
    def config(self) -> RunConfig:
        """Configuration of the job."""
        return self.job.config

    @property
    def lacks_masters(self) -> bool:
        """Whether the engine needs float32 master weights that the checkpoint stores as the model's own weights."""
        if self.previous is None or weights_dtype(self.config.train) == torch.float32:
            return False
        return self.previous.config["train"]["zero_stage"] == 0


def build_run(
    job: TrainJob, rank: int, world_size: int, *, factories: Sequence[CallbackFactory] = FACTORIES
) -> Run | Checkpoint:
    """Build a run.

    Args:
        job: the resolved run and its addresses.
        rank: this process.
        world_size: number of processes.
        factories: of the callbacks; see :mod:`mm1.train.run_callbacks`.

    Returns:
        The run, or the finished checkpoint if the work is finished already.

    Raises:
        Mm1Error: the configuration, the data or the checkpoints do not fit.
    """
    store, train = open_store(job.store), job.config.train
    mix = load(job.data, DataMix)
    if trouble := check_epochs(mix, train.steps * train.global_batch):
        raise ConfigurationError(f"train.steps: {trouble}")
    batch_plan = plan_layout(train, world_size)
    previous = newest_checkpoint(store, job.key, rank, world_size, all_agree)
    if previous is not None and not previous.trainer:
        return previous
    state = load_state(store, previous) if previous is not None else None
    parts = build_parts(Start(job, rank, store, mix, batch_plan, previous, state))
    callbacks = [callback for factory in factories if (callback := factory(parts)) is not None]
    return Run(parts, build_loop(parts, callbacks), partial(build_run, job, rank, world_size, factories=factories))


def build_parts(start: Start) -> RunParts:
    """Build all parts of a run except its loop."""
    job, config = start.job, start.config
    model, processor = build_trained_model(start)
    peak_lr = learning_rate_law(num_decoder_parameters(model)) if config.optim.lr == "law" else config.optim.lr
    engine = build_engine(start, model, peak_lr)
    history, progress = build_history(start, peak_lr)
    loader = build_loader(start)
    timing = Timing(engine, start.rank)
    metrics = None
    if start.rank == 0:
        devices = Devices.current(model.config, start.batch_plan.world_size)
        every = config.train.checkpoint_every
        metrics = Metrics(Path(job.folder), start.store, job.key, every=every, peak_lr=peak_lr, devices=devices, timing=timing)
    return RunParts(
        job=job,
        rank=start.rank,
        store=start.store,
        model=model,
        processor=processor,
        engine=engine,
        loader=loader,
        history=history,
        progress=progress,
        checkpoints=Checkpoints(
            job=job,
            store=start.store,
            model=model,
            processor=processor,
            engine=engine,
            loader=loader,
            history=history,
            rank=start.rank,
            model_files=start.previous.model if start.previous is not None else None,
        ),
        metrics=metrics,
        validation=build_validation(start, engine, processor),
        timing=timing,
        speed=ProgressLines(config.log.progress_every_s, metrics),
    )


def build_trained_model(start: Start) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Build the model with its frozen parts marked: from the checkpoint to resume from, or the run's initial model."""
    job, config, scratch = start.job, start.config, Path(start.job.folder) / f"rank-{start.rank}"
    if start.previous is not None:
        dtype = torch.float32 if start.lacks_masters else weights_dtype(config.train)
        model, processor = load_model(start.store, start.previous, scratch / "model", dtype, verify=False)
        model.train()
    else:
        init = Init(load(job.init, Checkpoint), open_store(split_uri(job.init)[0])) if job.init else None
        mix_store = open_store(split_uri(job.data)[0])
        model, processor = build_model(config, start.mix, mix_store, scratch, init=init, vision=job.vision, decoder=job.decoder)
    freeze(model, config.train.frozen)
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, processor


def build_engine(start: Start, model: MM1ForConditionalGeneration, peak_lr: float) -> Engine:
    """Build the engine, with the optimizer state of the checkpoint."""
    masters = None
    if start.lacks_masters:  # copied before the engine rounds the model's weights
        masters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config = start.config
    engine = Engine(model, peak_lr=peak_lr, optim=config.optim, train=config.train, batch_plan=start.batch_plan)
    if start.state is not None:
        engine.load_state(start.state.optimizer, masters)
    return engine


def build_history(start: Start, peak_lr: float) -> tuple[History, Progress]:
    """Build the history with the rows so far, and the run's progress."""
    config, previous, state = start.config, start.previous, start.state
    history = History(peak_lr, [source.name for source in start.mix.sources])
    if previous is None or state is None:
        return history, Progress(config.train.steps, config.schedule.total_tokens if config.schedule.unit == "tokens" else 0)
    progress = Progress(**state.run["progress"])
    if previous.history is not None:
        history.from_parquet(start.store.get_bytes(previous.history), progress.step)
    log.info("resuming after step %d of %d", previous.step, previous.total_steps)
    if previous.world_size != start.batch_plan.world_size:
        log.info("the checkpoint was saved by %d processes, this run has %d", previous.world_size, start.batch_plan.world_size)
    if state.run.get("code", "") != start.job.code:
        log.warning("the code has changed since the checkpoint was saved")
    return history, progress


def build_loader(start: Start) -> MixtureLoader:
    """Build the loader, starting at the run's position in the data."""
    store = open_store(split_uri(start.job.data)[0])
    raw = load_digest(store, start.mix.raw)
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"data: expected RawData as its parent {start.mix.raw[:12]}")
    position: dict[str, Any] = start.state.run["loader"] if start.state is not None else {"sequence": 0, "cursors": None}
    return MixtureLoader(
        store,
        start.mix,
        raw,
        micro_batch=start.batch_plan.micro_batch,
        global_batch=start.batch_plan.global_batch,
        rank=start.rank,
        world_size=start.batch_plan.world_size,
        start_sequence=position["sequence"],
        num_workers=start.config.train.loader_workers,
        cursors=position["cursors"],
    )


def build_validation(start: Start, engine: Engine, processor: MM1Processor) -> Validation | None:
    """Build the validation with its micro-batches; None if it is off, or no samples are held out."""
    train, images = start.config.train, processor.image_processor
    if not train.validate_every:
        return None
    store = open_store(split_uri(start.job.data)[0])
    batches = held_out_batches(store, start.mix, start.batch_plan, start.rank, train.validation_sequences)
    norm = PixelNorm(images.image_mean, images.image_std)

    def inputs(batch: Batch) -> tuple[Batch, torch.Tensor]:
        on_device = {name: tensor.to(engine.device, non_blocking=True) for name, tensor in batch.items()}
        if "pixel_values" in on_device:
            on_device["pixel_values"] = norm(on_device["pixel_values"])
        return on_device, on_device.pop("source_ids")

    return Validation(engine, batches, inputs, train.validate_every) if batches else None


def build_loop(parts: RunParts, callbacks: Sequence[Callback]) -> Loop:
    """Build the loop of a run."""
    schedule, model = parts.job.config.schedule, parts.model.config
    images = parts.processor.image_processor
    step = TrainStep(
        parts.engine,
        parts.history.sources,
        PixelNorm(images.image_mean, images.image_std),
        model.num_experts_per_tok if model.is_moe else 0,
    )
    return Loop(
        step,
        iter(parts.loader),
        rate_factor=lambda progress: rate_factor(schedule, progress.step, progress.total_steps, progress.tokens),
        progress=parts.progress,
        callbacks=callbacks,
        skip=skipped_batches(parts.store, parts.job.key),
    )
