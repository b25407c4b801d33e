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
from datetime import timedelta
from typing import Any

from mm1.checkpoint.resume import skipped_batches
from mm1.errors import DivergedError, OutOfMemory
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.launcher import Layout, parse_launcher
from mm1_components.ranks.torchrun import run_ranks
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
    if context.launcher:
        from mm1_components.ranks.jobset.supervisor import supervise  # the Kubernetes client: only on a cluster

        result = supervise(job, layout, context, parse_launcher(context.launcher), OutputLines(context).take)
    else:
        result = _train_here(job, layout, context)
    context.note(tokens_per_s=result.tokens_per_s, padding_share=result.padding_share, train_s=result.seconds, **result.facts)
    return result


def _train_here(job: TrainJob, layout: Layout, context: Context) -> TrainResult:
    folder = context.work / "train"
    folder.mkdir(parents=True, exist_ok=True)
    job = job.model_copy(update={"folder": str(folder)})
    if job.decoder:
        from mm1.train.import_decoder import publish_decoder  # torch and transformers

        return publish_decoder(job)
    processes = layout.world_size(launcher="")
    relaunched: list[str] = []

    def again(why: str) -> None:
        relaunched.append(why)
        context.note(relaunched=relaunched)
        log.warning("restarting from the last checkpoint: %s", why)

    while True:
        skipped = len(skipped_batches(context.store, job.key))
        try:
            result = run_ranks(job, processes, OutputLines(context).take, layout.grace_s)
        except OutOfMemory as error:
            if (micro_batch := job.config.train.micro_batch) == 1:
                raise
            job = job.with_micro_batch(micro_batch // 2)
            again(f"out of memory, micro_batch {micro_batch} -> {micro_batch // 2} (the global batch stays): {error}")
            continue
        except DivergedError as error:
            if len(skipped_batches(context.store, job.key)) == skipped:  # the ranks know of no batch to skip
                raise
            again(f"diverged: {error}")
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
                sys.stderr.write(line)
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
