"""Recovery from a divergence: the batch is skipped, once, and the ranks start again from the last checkpoint.

    DivergedError -> batch in the list of the resume pointer -> the ranks exit with its code (82)
        -> whoever started them sees that the list has grown -> the same ranks again, without the batch

New processes have all of their memory free; a second model next to the first, which DeepSpeed keeps alive, might not fit.
"""

from __future__ import annotations

from mm1.checkpoint.resume import skip_batch, skipped_batches
from mm1.errors import DivergedError
from mm1.train.run_parts import RunParts


def skip_diverged(parts: RunParts, error: DivergedError, batch: int) -> DivergedError:
    """Write the batch at which a run diverged to the list of batches to skip, unless it had diverged before.

    Every rank calls this, and returns when the list is written.

    Args:
        parts: parts of the run.
        error: the divergence; a callback may have found it after the step.
        batch: number of the global batch of the last step.

    Returns:
        The error to end with.
    """
    key, store = parts.job.key, parts.store
    parts.checkpoints.wait()
    diverged_before = bool(skipped_batches(store, key))
    parts.ranks.meet("reading the list of skipped batches")  # all have read it before rank 0 writes it
    if diverged_before:
        return DivergedError(f"{error}; the run had diverged before, and skipping a batch did not help")
    if parts.rank == 0:
        skip_batch(store, key, batch)
    parts.ranks.meet("writing the list of skipped batches")
    return DivergedError(f"{error}; start again to resume from the last checkpoint and skip global batch {batch}")
