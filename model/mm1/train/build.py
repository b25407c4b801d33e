"""Building a run: from a job to a loop that is ready to start, resumed from the newest checkpoint if there is one.

TrainJob -> loader (forks its worker processes) -> process group -> Start (mixture, batch plan, newest checkpoint)
-> model -> engine, history, [each with its state from that checkpoint] -> RunParts -> callbacks -> Loop -> Run

Ranks read from the store at different speeds, so they meet outside collectives before each part that has collectives.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mm1.checkpoint.adapters import is_adapted
from mm1.checkpoint.read import TrainerState, load_model, load_state
from mm1.checkpoint.resume import newest_checkpoint, skipped_batches
from mm1.checkpoint.write import put_base
from mm1.data.load.collate import PixelNorm
from mm1.data.load.loader import MixtureLoader
from mm1.manifests import Checkpoint, DataMix, Files, load, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.batch_plan import BatchPlan, plan_layout
from mm1.train.callback import Callback
from mm1.train.callbacks.device_hours import DeviceHours
from mm1.train.callbacks.metrics import Devices, Metrics
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.callbacks.timing import Timing
from mm1.train.callbacks.validation import Validation, held_bytes, held_out_batches
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import RunConfig, TrainJob
from mm1.train.continuation import begins
from mm1.train.empty_model import Trained
from mm1.train.engine import Engine, limit_collectives
from mm1.train.history import History
from mm1.train.inputs import ModelInputs, blank_image
from mm1.train.loop import Loop
from mm1.train.model import Init, build_model, fit_processor, load_tokenizer, weights_dtype
from mm1.train.objective import Objective, StepObjective
from mm1.train.optim import freeze, num_decoder_parameters
from mm1.train.progress import Progress
from mm1.train.randomness import seed_step
from mm1.train.ranks import Ranks
from mm1.train.recompute import recompute_activations
from mm1.train.run import Run
from mm1.train.run_callbacks import FACTORIES, CallbackFactory
from mm1.train.run_loader import build_loader
from mm1.train.run_parts import RunParts
from mm1.train.same_work import difference
from mm1.train.schedule import learning_rate_law, rate_factor
from mm1.train.spikes import SpikeBand
from mm1.train.step import TrainStep
from mm1.train.vision.build import build_tower_model, build_tower_objective
from mm1.train.vision.tower import TowerModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Starting point of a run."""

    job: TrainJob
    ranks: Ranks
    """All processes of the run."""
    store: Store
    """Store of the job."""
    mix: DataMix
    loader: MixtureLoader
    """At the start of the data."""
    batch_plan: BatchPlan
    previous: Checkpoint | None
    """The newest checkpoint of this work; at first the one that it continues."""
    state: TrainerState | None
    """The trainer's state in it."""

    @property
    def config(self) -> RunConfig:
        """Configuration of the job."""
        return self.job.config

    @property
    def restarts_data(self) -> bool:
        """Whether the run begins with the state of a checkpoint, and at the beginning of its mixture."""
        return self.config.train.restart_data and self.previous is not None and begins(self.job, self.previous)

    @property
    def lacks_masters(self) -> bool:
        """Whether the engine needs float32 master weights that the checkpoint stores as the model's own weights."""
        if self.previous is None or weights_dtype(self.config.train) == torch.float32:
            return False
        return self.previous.config["train"]["zero_stage"] == 0


def build_run(
    job: TrainJob,
    rank: int,
    world_size: int,
    *,
    loader: MixtureLoader | None = None,
    factories: Sequence[CallbackFactory] = FACTORIES,
) -> Run | Checkpoint:
    """Build a run; the process group exists.

    Args:
        job: the resolved run and its addresses.
        rank: this process.
        world_size: number of processes.
        loader: of :func:`build_loader`, called before the process group was created; None = built now.
        factories: of the callbacks; see :mod:`mm1.train.run_callbacks`.

    Returns:
        The run, or the finished checkpoint if the work is finished already.

    Raises:
        Mm1Error: the configuration, the data or the checkpoints do not fit.
    """
    loader = loader or build_loader(job, rank, world_size)
    store, train, mix = open_store(job.store), job.config.train, loader.mix
    limit_collectives(train.collective_timeout_s)
    ranks = Ranks.joined(rank, world_size)

    def agree(is_whole: bool, num_bytes: int) -> bool:
        return ranks.meet("verifying the newest checkpoint", num_bytes, ok=is_whole)

    start = split_uri(job.resume)[1] if job.resume else ""
    previous = newest_checkpoint(store, job.key, rank, world_size, agree, partial(_not_of_this_work, job), start)
    if previous is not None and previous.finished and not begins(job, previous):
        loader.close()
        return previous
    state = load_state(store, previous) if previous is not None else None
    parts = build_parts(Start(job, ranks, store, mix, loader, plan_layout(train, world_size), previous, state))
    callbacks = [callback for factory in factories if (callback := factory(parts)) is not None]
    return Run(parts, build_loop(parts, callbacks))


def _not_of_this_work(job: TrainJob, checkpoint: Checkpoint) -> str:
    if begins(job, checkpoint):
        return ""
    return difference(checkpoint, job.config, [split_uri(uri)[1] for uri in (job.data, job.init, job.resume) if uri])


def build_parts(start: Start) -> RunParts:
    """Build all parts of a run except its loop."""
    job, config, loader = start.job, start.config, start.loader
    model, processor = build_trained_model(start)
    start.ranks.meet("loading the model", _num_bytes(start))
    trained = build_trained_part(start, model, processor)
    peak_lr = learning_rate_law(num_decoder_parameters(model)) if config.optim.lr == "law" else config.optim.lr
    images, blank = processor.image_processor, blank_image(model, start.mix)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    engine = build_engine(start, trained, peak_lr)
    history, progress = build_history(start, peak_lr)
    inputs = ModelInputs(engine.device, PixelNorm(images.image_mean, images.image_std), blank)
    objective = build_objective(start, engine, inputs, processor)
    timing = Timing(engine, start.ranks.rank)
    if start.state is not None and not start.restarts_data:
        position = start.state.run["loader"]
        loader.seek(position["sequence"], position["cursors"])
    metrics = None
    if start.ranks.rank == 0:
        number, counted = start.batch_plan.world_size, Trained.of(config.train)
        devices = Devices.current(model.config, number, counted) if trained is model else None
        every = config.train.checkpoint_every
        metrics = Metrics(Path(job.folder), start.store, job.key, every=every, peak_lr=peak_lr, devices=devices, timing=timing)
    checkpoints = Checkpoints(
        job=job,
        store=start.store,
        model=model,
        processor=processor,
        engine=engine,
        loader=loader,
        history=history,
        ranks=start.ranks,
        model_files=_model_files(start, model, processor),
        num_parameters=num_parameters,
        temporary=trained if isinstance(trained, TowerModel) else None,
    )
    return RunParts(
        job=job,
        rank=start.ranks.rank,
        ranks=start.ranks,
        store=start.store,
        model=model,
        processor=processor,
        engine=engine,
        objective=objective,
        loader=loader,
        history=history,
        progress=progress,
        checkpoints=checkpoints,
        metrics=metrics,
        validation=build_validation(start, engine, objective),
        timing=timing,
        speed=ProgressLines(config.log.progress_every_s, metrics, checkpoints=checkpoints),
        device_hours=DeviceHours(
            start.store, job.key, job.run, devices=start.batch_plan.world_size, limit=job.device_hours, rank=start.ranks.rank
        ),
    )


def _model_files(start: Start, model: MM1ForConditionalGeneration, processor: MM1Processor) -> Files | None:
    """Return the files that the run's checkpoints share: of its last one, or of the base of adapters; None for none."""
    if start.previous is not None and not start.restarts_data:
        return start.previous.model
    if not is_adapted(model) or start.ranks.rank:
        return None
    origin = start.job.init if start.previous is None else start.job.resume
    checkpoint, store = load(origin, Checkpoint), open_store(split_uri(origin)[0])
    return put_base(start.store, model, processor, Path(start.job.folder) / "base", store, checkpoint.model)


def build_trained_model(start: Start) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Build the model: from the checkpoint to resume from, or the run's initial model."""
    job, config, scratch = start.job, start.config, Path(start.job.folder) / f"rank-{start.ranks.rank}"
    if start.previous is not None:
        dtype = torch.float32 if start.lacks_masters else weights_dtype(config.train)
        model, processor = load_model(start.store, start.previous, scratch / "model", dtype, verify=False)
        model.train()
        if start.restarts_data:
            mix_store = open_store(split_uri(job.data)[0])
            processor = fit_processor(processor, start.mix, load_tokenizer(start.mix, mix_store, scratch))
    else:
        init = Init(load(job.init, Checkpoint), open_store(split_uri(job.init)[0])) if job.init else None
        mix_store = open_store(split_uri(job.data)[0])
        model, processor = build_model(config, start.mix, mix_store, scratch, init=init, vision=job.vision, decoder=job.decoder)
    return model, processor


def build_trained_part(
    start: Start, model: MM1ForConditionalGeneration, processor: MM1Processor
) -> MM1ForConditionalGeneration | TowerModel:
    """Return what the engine trains, with its frozen parts marked: the model, or in stage vision its tower."""
    config = start.config
    trained: MM1ForConditionalGeneration | TowerModel = model
    if config.stage == "vision":
        saved = start.state.optimizer if start.state is not None else None
        trained = build_tower_model(config, start.mix, model, processor, saved)
    freeze(trained, config.train.frozen)
    if config.train.gradient_checkpointing:
        for part in [trained] if trained is model else trained.modules():
            if isinstance(part, PreTrainedModel):
                recompute_activations(part)
    return trained


def build_engine(start: Start, model: nn.Module, peak_lr: float) -> Engine:
    """Build the engine, with the optimizer state of the checkpoint."""
    masters = None
    if start.lacks_masters:  # copied before the engine rounds the model's weights
        masters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config = start.config
    engine = Engine(model, peak_lr=peak_lr, optim=config.optim, train=config.train, batch_plan=start.batch_plan)
    if start.state is not None:
        engine.load_state(start.state.optimizer, masters)
        start.ranks.meet("loading the optimizer state", _num_bytes(start))
    return engine


def build_objective(start: Start, engine: Engine, inputs: ModelInputs, processor: MM1Processor) -> StepObjective:
    """Build the objective of the stage."""
    if isinstance(engine.model, TowerModel):
        return build_tower_objective(start.config, start.mix, engine.model, processor, engine, inputs)
    return Objective(engine, inputs, start.config.train.balance_over)


def build_history(start: Start, peak_lr: float) -> tuple[History, Progress]:
    """Build the history with the rows so far, and the run's progress."""
    config, previous, state = start.config, start.previous, start.state
    history = History(peak_lr, [source.name for source in start.mix.sources])
    total_tokens = config.schedule.total_tokens if config.schedule.unit == "tokens" else 0
    totals: dict[str, Any] = {"total_steps": config.train.steps, "total_tokens": total_tokens}
    if previous is None or state is None:
        return history, Progress(**totals)
    progress = Progress(**{**state.run["progress"], **totals})  # a run that continues another one has more steps
    if previous.history is not None:
        history.from_parquet(start.store.get_bytes(previous.history), progress.step)
    log.info("resuming after step %d of %d", previous.step, progress.total_steps)
    if previous.world_size != start.batch_plan.world_size:
        log.info("the checkpoint was saved by %d processes, this run has %d", previous.world_size, start.batch_plan.world_size)
    if state.run.get("code", "") != start.job.code:
        log.warning("the code has changed since the checkpoint was saved")
    return history, progress


def _num_bytes(start: Start) -> int:
    """Bytes of the files that a rank reads to start from."""
    checkpoint = start.previous or (load(start.job.init, Checkpoint) if start.job.init else None)
    return sum(ref.num_bytes for ref in (*checkpoint.model.values(), *checkpoint.trainer.values())) if checkpoint else 0


def build_validation(start: Start, engine: Engine, objective: StepObjective) -> Validation | None:
    """Build the validation with its micro-batches; None if it is off, or no samples are held out."""
    train, plan, ranks = start.config.train, start.batch_plan, start.ranks
    if not train.validate_every:
        return None
    store = open_store(split_uri(start.job.data)[0])
    batches = held_out_batches(store, start.mix, plan, ranks.rank, train.validation_sequences)
    ranks.meet("reading the held-out samples", sum(held_bytes(own) for own in batches.values()))
    return Validation(engine, batches, objective, train.validate_every, ranks.rank) if batches else None


def build_loop(parts: RunParts, callbacks: Sequence[Callback]) -> Loop:
    """Build the loop of a run."""
    schedule, model = parts.job.config.schedule, parts.model.config
    step = TrainStep(
        parts.engine,
        parts.history.sources,
        parts.objective,
        model.num_experts_per_tok if model.is_moe else 0,
        build_band(parts),
    )
    return Loop(
        step,
        iter(parts.loader),
        rate_factor=lambda progress: rate_factor(schedule, progress.step, progress.total_steps, progress.tokens),
        progress=parts.progress,
        callbacks=callbacks,
        skip=skipped_batches(parts.store, parts.job.key),
        ready=lambda: parts.ranks.meet("reading the first batch and the files of the run so far"),
        reseed=partial(seed_step, parts.job.config.train.seed, parts.ranks.rank),
    )


def build_band(parts: RunParts) -> SpikeBand:
    """Build the band of loss and gradient norm from the run's history; of other data only the steps on them count."""
    config = parts.job.config
    first = load(parts.job.resume, Checkpoint).step if config.train.restart_data and parts.job.resume else 0
    rows = [row for row in parts.history.rows if row["step"] > first]
    updates_only = config.optim.name == "muon" and config.train.zero_stage > 0  # the norm of Muon's updates hardly changes
    return SpikeBand(config.optim, rows, with_norm=not updates_only)
