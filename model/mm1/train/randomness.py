"""Random numbers of training: what dropout draws in a step follows from (seed, step, rank) alone.

Nothing of it is saved: a resumed run seeds the same step equally, so on the same number of ranks it is exact. Ranks draw
different numbers. On another number of ranks a step draws other numbers, because each rank has other sequences. The model is
built before the first step, with the same seed on every rank.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the generators of torch (CPU and GPU), Python and NumPy for one step.

    Args:
        seed: of the run.
        rank: this process.
        step: steps done before this one, the whole run included.
    """
    draws = np.random.SeedSequence((seed, step, rank)).generate_state(3, np.uint32)
    torch.manual_seed((int(draws[0]) << 32 | int(draws[1])) >> 1)
    random.seed(int(draws[2]))
    np.random.seed(int(draws[2]))
