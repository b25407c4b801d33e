"""Recovery from a divergence: resume once from the last checkpoint, and skip the batch."""

from __future__ import annotations

import logging

from mm1.checkpoint.resume import skip_batch, skipped_batches
from mm1.errors import DivergedError
from mm1.train.config import TrainResult
from mm1.train.run import Run

log = logging.getLogger(__name__)


def train_through(run: Run) -> TrainResult:
    """Train to the end; a run that diverges returns to its last checkpoint and skips the batch, once.

    Args:
        run: as built; released when another run replaces it.

    Raises:
        DivergedError: the run diverged again, or had diverged before.
    """
    while True:
        try:
            return run.go()
        except DivergedError as error:
            _skip_batch(run, error)
        run = run.build_again()


def _skip_batch(run: Run, error: DivergedError) -> None:
    batch, key, store = run.progress.batch, run.parts.job.key, run.parts.store
    run.checkpoints.wait()
    if skipped_batches(store, key):
        raise DivergedError(f"{error}; the run had diverged before, and skipping a batch did not help") from None
    run.engine.gather(None)  # every rank has read the list before rank 0 writes it
    if run.parts.rank == 0:
        skip_batch(store, key, batch)
    run.engine.gather(None)
    log.warning("%s; resuming from the last checkpoint and skipping global batch %d", error, batch)
