r"""Training from a step: the ranks run here, or on a cluster under a supervisor; what comes of them is the same.

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

from mm1.errors import OutOfMemory
from mm1.store.local import atomic_path
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.launcher import Layout, parse_launcher
from mm1_components.ranks.torchrun import run_ranks
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")

LOG_EVERY_S = 10.0
FIGURES_FILE = "figures"
"""Beside the progress file: a line of figures, for a display that has room for it."""


def train(job: TrainJob, layout: Layout, context: Context) -> TrainResult:
    """Do a training job until it ends.

    Args:
        job: what to do; its ``folder`` is set here.
        layout: nodes, processes of each, pool.
        context: of the step; gets progress and facts, and knows the launcher.

    Raises:
        Mm1Error: of the class of the rank that failed; Preempted after a request to stop.
    """
    if context.launcher:
        from mm1_components.ranks.jobset.supervisor import supervise  # the Kubernetes client: only on a cluster

        result = supervise(job, layout, context, parse_launcher(context.launcher), Lines(context).take)
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
    while True:
        try:
            result = run_ranks(job, processes, Lines(context).take, layout.grace_s)
        except OutOfMemory as error:
            if (micro_batch := job.config.train.micro_batch) == 1:
                raise
            job = job.with_micro_batch(micro_batch // 2)
            relaunched.append(f"out of memory, micro_batch {micro_batch} -> {micro_batch // 2}: {error}")
            context.note(relaunched=relaunched)
            log.warning("starting again with the same global batch: %s", relaunched[-1])
            continue
        assert result is not None, "rank 0 is on this machine"
        return result


class Lines:
    """What the trainer writes: progress for the engine, now and then a line for people, everything else as it is."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.last = float("-inf")

    def take(self, line: str) -> None:
        """One line, with its end."""
        progress = _progress(line)
        if progress is None:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        self.context.progress(progress["step"], progress["steps"])
        if self.context.progress_file:
            with atomic_path(self.context.progress_file.with_name(FIGURES_FILE)) as temporary:
                temporary.write_text(f"loss {progress['loss']:.3f}, {figures(progress)}")
        if time.monotonic() - self.last >= LOG_EVERY_S or progress["step"] == progress["steps"]:
            self.last = time.monotonic()
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in progress["losses"].items())
            log.info(
                "step %d of %d: loss %.3f (%s), %s",
                *(progress[name] for name in ("step", "steps", "loss")),
                losses,
                figures(progress),
            )


def figures(progress: dict[str, Any]) -> str:
    """Speed, time that is left and health of a run, in words; the most wanted first, where the end may be cut off."""
    words = [f"{progress['tokens_per_s']:,} tokens/s", f"{timedelta(seconds=round(progress['eta_s']))} left"]
    if "mfu" in progress:
        words.append(f"MFU {progress['mfu']:.1%}")
    words += [f"gradient {progress['grad_norm']:.3g}", f"{progress['memory_bytes'] / 1e9:.2f} GB"]
    if skipped := progress["skipped"]:
        words.append(f"{skipped} batch{'es' if skipped > 1 else ''} left out")
    return ", ".join(words)


def _progress(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"mm1": "progress"'):
        return None
    try:
        found: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found
