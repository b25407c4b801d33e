"""Random streams, one per named purpose, so that no part of the world depends on the number of draws in another.

Discrete choices (words, scenes, orders) use Python's generator, whose sequence is the same on every platform. Pixels use
numpy's, in whole batches.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def _digest(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mm1.world/{seed}/{name}".encode()).digest()[:16], "big")


def choices(seed: int, name: str) -> random.Random:
    """Create the stream of discrete choices called ``name``."""
    return random.Random(_digest(seed, name))


def pixels(seed: int, name: str) -> np.random.Generator:
    """Create the stream of pixel noise and jitter called ``name``."""
    return np.random.default_rng(_digest(seed, name))
