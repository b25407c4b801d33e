"""File names in a checkpoint.

A checkpoint is a manifest (:class:`mm1.manifests.Checkpoint`) over two folders of content-addressed files:

- ``model``: model and processor as written by ``save_pretrained``; plain transformers can load it;
- ``trainer``, while a run is unfinished: ``state.json`` (counters, position in the data), and for each rank
  ``rank-00000-of-00002.safetensors`` (flat pieces of the optimizer state) and ``.json`` (the index of the pieces, and plain
  numbers), which any other number of ranks can read (:mod:`mm1.checkpoint.pieces`). Nothing is pickled.
"""

from __future__ import annotations

from typing import NamedTuple

STATE_NAME = "state.json"


class RankNames(NamedTuple):
    """Names of one rank's files."""

    tensors: str
    description: str


def rank_names(rank: int, world_size: int) -> RankNames:
    """Return the names of a rank's files."""
    stem = f"rank-{rank:05d}-of-{world_size:05d}"
    return RankNames(f"{stem}.safetensors", f"{stem}.json")
