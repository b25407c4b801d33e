"""Random streams: one per purpose, named, so that no part of the world depends on how much another part drew.

Discrete choices (words, scenes, orders) come from Python's generator, whose sequence is the same on every platform;
pixels come from numpy's, in whole batches.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def _digest(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mm1.world/{seed}/{name}".encode()).digest()[:16], "big")


def choices(seed: int, name: str) -> random.Random:
    """The stream of discrete choices called ``name``."""
    return random.Random(_digest(seed, name))


def pixels(seed: int, name: str) -> np.random.Generator:
    """The stream of pixel noise and jitter called ``name``."""
    return np.random.default_rng(_digest(seed, name))
