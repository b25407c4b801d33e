"""Training through a divergence: back to the last checkpoint, without the batch, once."""

from __future__ import annotations

import logging

from mm1.checkpoint.resume import skip_batch, skipped_batches
from mm1.errors import DivergedError
from mm1.train.config import TrainResult
from mm1.train.run import Run

log = logging.getLogger(__name__)


def train_through(run: Run) -> TrainResult:
    """Train to the end; a run that diverges goes back to its last checkpoint and leaves out the batch, once.

    Args:
        run: as built; released when another takes its place.

    Raises:
        DivergedError: it diverged again, or had before.
    """
    while True:
        try:
            return run.go()
        except DivergedError as error:
            _leave_out_batch(run, error)
        run = run.build_again()


def _leave_out_batch(run: Run, error: DivergedError) -> None:
    batch, key, store = run.progress.batch, run.parts.job.key, run.parts.store
    run.checkpoints.wait()
    if skipped_batches(store, key):
        raise DivergedError(f"{error}; it had diverged before, and going back did not help") from None
    run.engine.gather(None)  # everybody has looked before anybody writes
    if run.parts.rank == 0:
        skip_batch(store, key, batch)
    run.engine.gather(None)
    log.warning("%s; going back to the last checkpoint, and leaving out global batch %d", error, batch)
