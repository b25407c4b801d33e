"""The callbacks of a run.

To add one, write a :class:`~mm1.train.callback.Callback` and a factory for it, and add the factory to :data:`FACTORIES`, or
pass your own list to :func:`mm1.train.build.build_run`::

    class CountImages(Callback):
        def on_end(self, progress):
            print(progress.images)

    def count_images(parts: RunParts) -> Callback | None:
        return CountImages() if parts.rank == 0 else None

    run = build_run(job, rank, world_size, factories=[count_images, *FACTORIES])

A factory is called once per process and run, after the model, the engine and the loader are built. Callbacks are called in the
order of the list: :func:`save_checkpoints` and :func:`stop_on_request` come last, so that the others see a step before it is
saved. An exception in a callback ends the run. Raise it on every rank, or the other ranks hang waiting for the one that left.
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
"""Creates a callback of a run; None if the run, or this rank, does not need it."""


def validate(parts: RunParts) -> Callback | None:
    """Compute validation losses, on every rank; before the callbacks that record them."""
    return parts.validation


def time_phases(parts: RunParts) -> Callback:
    """Measure the phases of each step, on every rank; before the callbacks that show them."""
    return parts.timing


def record_history(parts: RunParts) -> Callback:
    """Record the rows of the history, on every rank."""
    return RecordHistory(parts.history)


def write_metrics(parts: RunParts) -> Callback | None:
    """Write the metrics file, on rank 0."""
    return parts.metrics


def copy_to_wandb(parts: RunParts) -> Callback | None:
    """Copy the metrics file to Weights & Biases, on rank 0."""
    config = parts.job.config
    if parts.metrics is None or config.log.wandb == "off":
        return None
    folder, mode = Path(parts.job.folder), config.log.wandb
    settings = config.model_dump(mode="json")
    return Wandb(mode, folder, parts.store, parts.job.key, config=settings, metrics=parts.metrics.path)


def profile_steps(parts: RunParts) -> Callback | None:
    """Profile some steps of rank 0, on request."""
    train = parts.job.config.train
    if parts.rank or not train.profile:
        return None
    return Profiler(train.profiled, Path(parts.job.folder), parts.store, parts.job.key)


def measure_speed(parts: RunParts) -> Callback:
    """Measure the run's speed on every rank, and print progress lines on rank 0."""
    return parts.speed


def count_device_hours(parts: RunParts) -> Callback:
    """Count the device hours of the run."""
    return parts.device_hours


def save_checkpoints(parts: RunParts) -> Callback:
    """Save checkpoints to resume from."""
    return Saving(parts.job.config.train.checkpoint_every, parts.checkpoints)


def stop_on_request(parts: RunParts) -> Callback:
    """Stop gracefully on SIGTERM or SIGINT, and when the device hours are used up."""
    return Preemption(parts.engine, parts.checkpoints, parts.device_hours)


FACTORIES: tuple[CallbackFactory, ...] = (
    validate,
    time_phases,
    record_history,
    write_metrics,
    copy_to_wandb,
    profile_steps,
    measure_speed,
    count_device_hours,
    save_checkpoints,
    stop_on_request,
)
"""Factories of every run, in the order in which their callbacks are called."""
