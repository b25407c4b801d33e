"""Putting a run together: from a job to a loop that is ready to go, resumed where there is former work.

TrainJob -> mixture, model, layout, engine, loader -> [state of the newest checkpoint] -> Loop with its callbacks
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from mm1.checkpoint.read import TrainerState, load_model, load_state
from mm1.checkpoint.resume import newest_checkpoint, skip_batch, skipped_batches
from mm1.data.load.collate import PixelNorm
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.statistics import check_epochs
from mm1.errors import ConfigurationError, DivergedError
from mm1.manifests import Checkpoint, DataMix, RawData, load, load_digest, split_uri
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.batch_plan import BatchPlan, plan_batch
from mm1.train.callback import Callback
from mm1.train.callbacks.history import RecordHistory
from mm1.train.callbacks.metrics import Devices, Metrics
from mm1.train.callbacks.preemption import Preemption
from mm1.train.callbacks.profiler import Profiler
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.callbacks.saving import Saving
from mm1.train.callbacks.wandb import Wandb
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import RunConfig, TrainJob, TrainResult
from mm1.train.engine import Engine, all_agree
from mm1.train.history import History
from mm1.train.loop import Loop
from mm1.train.model import Init, build_model, weights_dtype
from mm1.train.optim import freeze, num_decoder_parameters
from mm1.train.progress import Progress
from mm1.train.run import Run
from mm1.train.schedule import learning_rate_law, rate_factor
from mm1.train.step import TrainStep

log = logging.getLogger(__name__)


def build_run(job: TrainJob, rank: int, world_size: int) -> Run | Checkpoint:
    """Build a run.

    Args:
        job: what to do.
        rank: this process.
        world_size: number of processes.

    Returns:
        The run, or the finished checkpoint when former work had come to its end already.

    Raises:
        Mm1Error: configuration, data or checkpoints that do not fit.
    """
    config, store = job.config, open_store(job.store)
    scratch = Path(job.folder) / f"rank-{rank}"
    mix = load(job.data, DataMix)
    if trouble := check_epochs(mix, config.train.steps * config.train.global_batch):
        raise ConfigurationError(f"train.steps: {trouble}")
    layout = plan_batch(config.train.global_batch, config.train.micro_batch, world_size)
    former = newest_checkpoint(store, job.key, rank, world_size, all_agree)
    if former is not None and not former.trainer:
        return former
    model, processor = _model(job, mix, store, former, scratch)
    num_decoder = num_decoder_parameters(model)
    peak_lr = learning_rate_law(num_decoder) if config.optim.lr == "law" else config.optim.lr
    engine, masters = _engine(model, peak_lr, config, layout, former)
    sources = [source.name for source in mix.sources]
    history = History(peak_lr, sources)
    progress = Progress(config.train.steps, config.schedule.total_tokens if config.schedule.unit == "tokens" else 0)
    state = load_state(store, former) if former is not None else None
    if former is not None and state is not None:
        engine.load_state(state.optimizer, masters)
        progress = Progress(**state.run["progress"])
        if former.history is not None:
            history.from_parquet(store.get_bytes(former.history), progress.step)
        _tell(former, state, world_size, job.code)
    loader = _loader(job, mix, engine, rank, state)
    norm = PixelNorm(processor.image_processor.image_mean, processor.image_processor.image_std)
    model_files = former.model if former is not None else None
    checkpoints = Checkpoints(job, store, model, processor, engine, loader, history, rank, model_files)
    devices = Devices.here(model.config, world_size)
    metrics = Metrics(Path(job.folder), store, job.key, config.train.checkpoint_every, peak_lr, devices) if rank == 0 else None
    watchers = [metrics, *_watchers(job, store, metrics.path)] if metrics else []
    speed = ProgressLines(config.log.progress_every_s, metrics)
    saving = [Saving(config.train.checkpoint_every, checkpoints), Preemption(engine, checkpoints)]
    loop = Loop(
        TrainStep(engine, sources, norm, model.config.num_experts_per_tok if model.config.is_moe else 0),
        iter(loader),
        lambda at: rate_factor(config.schedule, at.step, at.total_steps, at.tokens),
        progress,
        [RecordHistory(history), *watchers, speed, *saving],
        skipped_batches(store, job.key),
    )
    return Run(loop, engine, checkpoints, history, speed)


def _model(
    job: TrainJob, mix: DataMix, store: Store, former: Checkpoint | None, scratch: Path
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """The model to train, its frozen parts marked: of the checkpoint to go on from, or as the run begins with."""
    config = job.config
    if former is not None:
        dtype = torch.float32 if _lacks_masters(config, former) else weights_dtype(config.train)
        model, processor = load_model(store, former, scratch / "model", dtype, verify=False)
        model.train()
    else:
        init = Init(load(job.init, Checkpoint), open_store(split_uri(job.init)[0])) if job.init else None
        mix_store = open_store(split_uri(job.data)[0])
        model, processor = build_model(config, mix, mix_store, init, job.vision, job.decoder, scratch)
    freeze(model, config.train.frozen)
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, processor


def train_through(run: Run, job: TrainJob, rank: int, world_size: int) -> TrainResult:
    """Train to the end; a run that diverges goes back to its last checkpoint and leaves out the batch, once.

    Args:
        run: as built.
        job: what it is.
        rank: this process.
        world_size: number of processes.

    Raises:
        DivergedError: it diverged again, or had before.
    """
    try:
        return run.go()
    except DivergedError as error:
        batch, store = run.progress.batch, run.checkpoints.store
        run.checkpoints.wait()
        if skipped_batches(store, job.key):
            raise DivergedError(f"{error}; it had diverged before, and going back did not help") from None
        run.engine.gather(None)  # everybody has looked before anybody writes
        if rank == 0:
            skip_batch(store, job.key, batch)
        run.engine.gather(None)
        log.warning("%s; going back to the last checkpoint, and leaving out global batch %d", error, batch)
    del run.loop, run.engine, run.checkpoints  # the memory of model and optimiser
    again = build_run(job, rank, world_size)
    assert isinstance(again, Run), "unfinished work"
    return train_through(again, job, rank, world_size)


def _watchers(job: TrainJob, store: Store, metrics: Path) -> list[Callback]:
    """What rank 0 does for those who look at the run, beside the file of figures."""
    config, folder = job.config, Path(job.folder)
    found: list[Callback] = []
    if config.log.wandb != "off":
        found.append(Wandb(config.log.wandb, folder, store, job.key, config.model_dump(mode="json"), metrics))
    if config.train.profile:
        found.append(Profiler(*config.train.profiled, folder, store, job.key))
    return found


def _engine(
    model: MM1ForConditionalGeneration, peak_lr: float, config: RunConfig, layout: BatchPlan, former: Checkpoint | None
) -> tuple[Engine, dict[str, torch.Tensor] | None]:
    """The engine, and float32 weights for its masters where the checkpoint has none beside the model's."""
    masters = None
    if former is not None and _lacks_masters(config, former):
        masters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return Engine(model, peak_lr, config.optim, config.train, layout), masters


def _lacks_masters(config: RunConfig, former: Checkpoint) -> bool:
    """Whether float32 masters are wanted beside the model, and the checkpoint has its float32 weights in the model."""
    return weights_dtype(config.train) != torch.float32 and former.config["train"]["zero_stage"] == 0


def _tell(former: Checkpoint, state: TrainerState, world_size: int, code: str) -> None:
    log.info("goes on after step %d of %d", former.step, former.total_steps)
    if former.world_size != world_size:
        log.info("it was saved by %d processes, and there are %d now", former.world_size, world_size)
    if state.run.get("code", "") != code:
        log.warning("the code has changed since that checkpoint was saved")


def _loader(job: TrainJob, mix: DataMix, engine: Engine, rank: int, state: TrainerState | None) -> MixtureLoader:
    store = open_store(split_uri(job.data)[0])
    raw = load_digest(store, mix.raw)
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"data: its parent {mix.raw[:12]} is no RawData")
    former: dict[str, Any] = state.run["loader"] if state else {"sequence": 0, "cursors": None}
    return MixtureLoader(
        store,
        mix,
        raw,
        micro_batch=engine.batch_plan.micro_batch,
        global_batch=engine.batch_plan.global_batch,
        rank=rank,
        world_size=engine.batch_plan.world_size,
        start_sequence=former["sequence"],
        num_workers=job.config.train.loader_workers,
        cursors=former["cursors"],
    )
