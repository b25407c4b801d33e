"""Pauses between steps, announced on rank 0's standard output, so that nobody takes a run that waits for a run that is stuck.

::

    {"mm1": "pause", "doing": "writing the checkpoint of step 200", "limit_s": 960.0}
    {"mm1": "resume"}

Whoever started the ranks reads them (``mm1_components.ranks.stuck``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def pause(doing: str, limit_s: float, rank: int) -> Iterator[None]:
    """Announce a pause of the main thread; only rank 0 writes.

    Args:
        doing: what takes long: "validating".
        limit_s: seconds after which it does not end any more.
        rank: this process.
    """
    _write({"mm1": "pause", "doing": doing, "limit_s": limit_s}, rank)
    try:
        yield
    finally:
        _write({"mm1": "resume"}, rank)


def _write(message: dict[str, Any], rank: int) -> None:
    if rank == 0:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
