r"""Training from a step: the ranks run on this machine, or on a cluster under a supervisor, with the same result.

Shared by `pretrain` and `sft`::

    RunConfig -> TrainJob --no launcher--> torchrun on this machine (mm1_components.ranks.torchrun) --\
                          \--launcher-----> JobSet, one pod per node (mm1_components.ranks.jobset) ----> TrainResult | outcome
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from mm1.checkpoint.resume import skipped_batches
from mm1.errors import DivergedError, Ending, Outcome, OutOfMemory
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.launcher import Launcher, Layout, parse_launcher
from mm1_components.ranks.torchrun import run_ranks
from mm1_components.ranks.training_metrics import TrainingMetrics
from mm1_components.ranks.training_parts import TrainingParts
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")

LOG_EVERY_S = 10.0
SLOWER = 0.1
"""A rank that is slower than the median one by at least this share is shown."""
WAITS = {"data": "waits for data", "checkpoint": "waits for checkpoints"}
WAIT_SHARE = 0.05
"""Phases that take at least this share of the time are shown."""
PAUSES = ('{"mm1": "pause"', '{"mm1": "resume"')
"""Lines between steps (:mod:`mm1.train.pauses`), for the watch only."""
FIGURES_FILE = "figures"
"""File next to the progress file with a line of metrics, for wide displays."""


def train(job: TrainJob, layout: Layout, context: Context) -> TrainResult:
    """Run a training job to completion.

    Args:
        job: the training job; its ``folder`` is set by this function.
        layout: nodes, processes per node, pool.
        context: context of the step, for progress, facts and the launcher.

    Raises:
        Mm1Error: the error of the rank that failed; Preempted after a request to stop.
    """
    metrics = TrainingMetrics(context.run, context.task, job.config)
    launcher = parse_launcher(context.launcher) if context.launcher else None
    with _exposed(metrics, launcher.metrics_port if launcher else context.metrics_port, is_pod=launcher is not None):
        try:
            result = _train(job, layout, context, launcher, metrics)
        except BaseException as error:
            metrics.ended(Ending.of(error).outcome)
            raise
        metrics.ended(Outcome.DONE)
    if job.probe is None:
        speed = {"tokens": result.tokens, "tokens_per_s": result.tokens_per_s, "train_s": result.seconds}
        context.note(**speed, padding_share=result.padding_share)
    context.note(**result.facts)
    return result


def _exposed(metrics: TrainingMetrics, port: int | None, *, is_pod: bool) -> AbstractContextManager[object]:
    """Serve the metrics in a pod to everybody, else to this machine; without a port to nobody."""
    if port is None:
        return nullcontext()
    from mm1_components.ranks.metrics_server import EVERYWHERE, THIS_MACHINE, exposed  # the library takes long to import

    return exposed(metrics, port, EVERYWHERE if is_pod else THIS_MACHINE)


def _train(job: TrainJob, layout: Layout, context: Context, launcher: Launcher | None, metrics: TrainingMetrics) -> TrainResult:
    output, parts = OutputLines(context), TrainingParts()

    def take(line: str) -> None:
        metrics.take(line)
        parts.take(line)
        output.take(line)

    if launcher is None:
        return _train_here(job, layout, context, take, metrics)
    from mm1_components.ranks.jobset.supervisor import supervise  # the Kubernetes client: only on a cluster

    return supervise(job, layout, context, launcher, take, metrics)


def _train_here(
    job: TrainJob, layout: Layout, context: Context, take: Callable[[str], None], metrics: TrainingMetrics
) -> TrainResult:
    folder = context.work / "train"
    folder.mkdir(parents=True, exist_ok=True)
    job = job.model_copy(update={"folder": str(folder)})
    if job.decoder:
        from mm1.train.import_decoder import publish_decoder  # torch and transformers

        return publish_decoder(job)
    processes = layout.world_size(launcher="")
    relaunched: list[str] = []

    def again(reason: Outcome, why: str) -> None:
        metrics.relaunched(reason)
        relaunched.append(why)
        context.note(relaunched=relaunched)
        log.warning("restarting from the last checkpoint: %s", why)

    while True:
        skipped = len(skipped_batches(context.store, job.key))
        try:
            result = run_ranks(job, processes, take, layout.grace_s)
        except OutOfMemory as error:
            if (micro_batch := job.config.train.micro_batch) == 1:
                raise
            job = job.with_micro_batch(micro_batch // 2)
            again(
                error.outcome,
                f"out of memory, micro_batch {micro_batch} -> {micro_batch // 2} (the global batch stays): {error}",
            )
            continue
        except DivergedError as error:
            if len(skipped_batches(context.store, job.key)) == skipped:  # the ranks know of no batch to skip
                raise
            again(error.outcome, f"diverged: {error}")
            continue
        assert result is not None, "rank 0 is on this machine"
        return result


class OutputLines:
    """The trainer's output: progress for the engine, a log line every few seconds, other lines unchanged."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.last = float("-inf")

    def take(self, line: str) -> None:
        """Handle one line, including its newline."""
        progress = _progress(line)
        if progress is None:
            if not line.startswith(PAUSES):
                sys.stderr.write(self.context.logs.whole_line(line))
                sys.stderr.flush()
            return
        self.context.progress(progress["step"], progress["steps"])
        self.context.figures(f"loss {progress['loss']:.3f}, {figures(progress)}")
        if time.monotonic() - self.last >= LOG_EVERY_S or progress["step"] == progress["steps"]:
            self.last = time.monotonic()
            losses = loss_list(progress["losses"])
            log.info(
                "step %d of %d: loss %.3f (%s), %s",
                *(progress[name] for name in ("step", "steps", "loss")),
                losses,
                figures(progress),
            )


def figures(progress: dict[str, Any]) -> str:
    """Format the speed, remaining time and health of a run; the most important first, because displays may truncate it."""
    items = [f"validation {loss_list(validation)}"] if (validation := progress.get("validation")) else []
    items += [f"{progress['tokens_per_s']:,} tokens/s", f"{timedelta(seconds=round(progress['eta_s']))} left"]
    if "mfu" in progress:
        items.append(f"MFU {progress['mfu']:.1%}")
    if "goodput" in progress:
        items.append(f"goodput {progress['goodput']:.1%}")
    if (straggler := progress.get("straggler", {"slower": 0.0}))["slower"] >= SLOWER:
        items.append(f"rank {straggler['rank']} {straggler['slower']:.0%} slower")
    phases = progress.get("phases", {})
    items += [f"{title} {phases[name]:.0%}" for name, title in WAITS.items() if phases.get(name, 0.0) >= WAIT_SHARE]
    items += [f"gradient {progress['grad_norm']:.3g}", f"{progress['memory_bytes'] / 1e9:.2f} GB"]
    if skipped := progress["skipped"]:
        items.append(f"{skipped} batch{'es' if skipped > 1 else ''} skipped")
    if spikes := progress["spikes"]:
        items.append(f"{spikes} spike{'s' if spikes > 1 else ''} not applied")
    return ", ".join(items)


def loss_list(losses: dict[str, float]) -> str:
    """Format the losses of sources."""
    return ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def _progress(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"mm1": "progress"'):
        return None
    try:
        progress: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return progress
