"""Putting a run together: from a job to a loop that is ready to go, resumed where there is former work.

TrainJob -> mixture, model, layout, engine, loader -> [state of the newest checkpoint] -> Loop with its callbacks
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mm1.checkpoint.read import TrainerState, load_model, load_state
from mm1.checkpoint.resume import newest_checkpoint
from mm1.data.loader import MixtureLoader
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix, RawData, load, load_digest, split_uri
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.callbacks.history import History
from mm1.train.callbacks.preemption import Preemption
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.callbacks.saving import Saving
from mm1.train.config import TrainJob
from mm1.train.engine import Engine
from mm1.train.layout import plan_layout
from mm1.train.loop import Loop, Progress
from mm1.train.model import Init, build_model
from mm1.train.optim import freeze, num_decoder_parameters
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
    mix_store = open_store(split_uri(job.data)[0])
    layout = plan_layout(config.train.global_batch, config.train.micro_batch, world_size)
    former = newest_checkpoint(store, job.key)
    if former is not None and not former.trainer:
        return former
    state: TrainerState | None = None
    if former is not None:
        state = load_state(store, former, scratch / "state", rank, world_size)
        model, processor = load_model(store, former, scratch / "model")
        model.train()
    else:
        init = Init(load(job.init, Checkpoint), open_store(split_uri(job.init)[0])) if job.init else None
        model, processor = build_model(config, mix, mix_store, init, job.vision, job.decoder, scratch)
    freeze(model, config.train.frozen)
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    num_decoder = num_decoder_parameters(model)
    peak_lr = learning_rate_law(num_decoder) if config.optim.lr == "law" else config.optim.lr
    engine = Engine(model, peak_lr, config.optim, config.train, layout)
    if state is not None:
        engine.load_state(state.tensors, state.description)
    sources = [source.name for source in mix.sources]
    history = History(peak_lr, sources)
    progress = Progress(config.train.steps, config.schedule.total_tokens if config.schedule.unit == "tokens" else 0)
    if former is not None and state is not None:
        progress = Progress(**state.run["progress"])
        if former.history is not None:
            history.from_parquet(store.get_bytes(former.history), progress.step)
        log.info("goes on after step %d of %d", progress.step, progress.total_steps)
    loader = _loader(job, mix, mix_store, processor, engine, rank, state)
    run = Run(
        job, store, mix, model, processor, engine, loader, history, progress, ProgressLines(config.log.progress_every_s, rank)
    )
    run.model_files = former.model if former is not None else None
    experts_per_token = model.config.num_experts_per_tok if model.config.is_moe else 0
    run.loop = Loop(
        TrainStep(engine, sources, experts_per_token),
        iter(loader),
        lambda at: rate_factor(config.schedule, at.step, at.total_steps, at.tokens),
        progress,
        [history, run.speed, Saving(config.train.checkpoint_every, run.save), Preemption(engine, run.save)],
    )
    return run


def _loader(
    job: TrainJob, mix: DataMix, store: Store, processor: Any, engine: Engine, rank: int, state: TrainerState | None
) -> MixtureLoader:
    raw = load_digest(store, mix.raw)
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"data: its parent {mix.raw[:12]} is no RawData")
    image = processor.image_processor
    former: dict[str, Any] = state.run["loader"] if state else {"sequence": 0, "cursors": None}
    return MixtureLoader(
        store,
        mix,
        raw,
        micro_batch=engine.layout.micro_batch,
        global_batch=engine.layout.global_batch,
        rank=rank,
        world_size=engine.layout.world_size,
        start_sequence=former["sequence"],
        image_mean=image.image_mean,
        image_std=image.image_std,
        cursors=former["cursors"],
    )
