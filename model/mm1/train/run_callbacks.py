"""The callbacks of a run.

To add one, write a :class:`~mm1.train.callback.Callback` and a factory for it, and put the factory into :data:`FACTORIES`; or
hand a list of your own to :func:`mm1.train.build.build_run`::

    class CountImages(Callback):
        def on_end(self, progress):
            print(progress.images)

    def count_images(parts: RunParts) -> Callback | None:
        return CountImages() if parts.rank == 0 else None

    run = build_run(job, rank, world_size, factories=[count_images, *FACTORIES])

A factory is called once for each process and run, when model, engine and loader are there. Callbacks are called in the order of
the list: :func:`save_checkpoints` and :func:`stop_on_request` come last, so that others have seen a step before it is saved.
What a callback raises ends the run. It must be raised on every rank, or the others wait for the one that left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mm1.train.callback import Callback
from mm1.train.callbacks.history import RecordHistory
from mm1.train.callbacks.preemption import Preemption
from mm1.train.callbacks.profiler import Profiler
from mm1.train.callbacks.saving import Saving
from mm1.train.callbacks.wandb import Wandb
from mm1.train.run_parts import RunParts

CallbackFactory = Callable[[RunParts], Callback | None]
"""Makes a callback of a run; None where the run, or this rank, has no use for it."""


def record_history(parts: RunParts) -> Callback:
    """Rows of the history, on every rank."""
    return RecordHistory(parts.history)


def write_metrics(parts: RunParts) -> Callback | None:
    """The file of figures, on rank 0."""
    return parts.metrics


def copy_to_wandb(parts: RunParts) -> Callback | None:
    """Weights & Biases, which reads the file of figures."""
    config = parts.job.config
    if parts.metrics is None or config.log.wandb == "off":
        return None
    folder, mode = Path(parts.job.folder), config.log.wandb
    settings = config.model_dump(mode="json")
    return Wandb(mode, folder, parts.store, parts.job.key, config=settings, metrics=parts.metrics.path)


def profile_steps(parts: RunParts) -> Callback | None:
    """A trace of some steps of rank 0, on request."""
    train = parts.job.config.train
    if parts.rank or not train.profile:
        return None
    return Profiler(train.profiled, Path(parts.job.folder), parts.store, parts.job.key)


def measure_speed(parts: RunParts) -> Callback:
    """Progress lines on rank 0, and the run's speed on every rank."""
    return parts.speed


def save_checkpoints(parts: RunParts) -> Callback:
    """Checkpoints to resume from."""
    return Saving(parts.job.config.train.checkpoint_every, parts.checkpoints)


def stop_on_request(parts: RunParts) -> Callback:
    """An orderly stop on SIGTERM or SIGINT."""
    return Preemption(parts.engine, parts.checkpoints)


FACTORIES: tuple[CallbackFactory, ...] = (
    record_history,
    write_metrics,
    copy_to_wandb,
    profile_steps,
    measure_speed,
    save_checkpoints,
    stop_on_request,
)
"""Of every run, in the order in which their callbacks are called."""
