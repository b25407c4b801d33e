"""Where the time of a training went: phases of its steps, goodput over its starts, the slowest rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLOTS = ("forward", "backward", "optimizer", "data", "reduce", "checkpoint")
"""Phases in the order of the colours; the others are grey."""
MIN_SHARE = 0.001


@dataclass(frozen=True)
class Share:
    """A part of the bar."""

    name: str
    share: float
    color: str


@dataclass(frozen=True)
class Times:
    """Times of a training, as shown on the page."""

    phases: list[Share]
    """Phases of the steps, longest first."""
    goodput: float | None
    delays: list[tuple[str, float]]
    """Wall time that was not spent on steps that count: name and seconds, longest first."""
    straggler: str
    """The slowest rank; empty with one rank."""


WALL_TIME = {
    "startup_s": "start-up",
    "checkpoint_s": "checkpoints",
    "validation_s": "validation",
    "lost_s": "steps done again",
    "away_s": "between starts",
}


def times(facts: Mapping[str, Any]) -> Times | None:
    """Read the times from the facts of a training's record; None if there are none, as in records of earlier versions."""
    phases, wall = facts.get("phases_s"), facts.get("wall_time")
    if not isinstance(phases, dict) or not (total := sum(phases.values())):
        return None
    shares = [Share(name, value / total, _color(name)) for name, value in phases.items() if value / total >= MIN_SHARE]
    items = (
        [(title, float(wall[name])) for name, title in WALL_TIME.items() if wall.get(name)] if isinstance(wall, dict) else []
    )
    straggler = ""
    if "slowest_rank" in facts:
        straggler = f"rank {facts['slowest_rank']}, {facts['slowest_rank_slower']:.0%} slower than the median rank"
    return Times(
        phases=sorted(shares, key=lambda share: -share.share),
        goodput=facts.get("goodput"),
        delays=sorted(items, key=lambda item: -item[1]),
        straggler=straggler,
    )


def _color(name: str) -> str:
    return f"var(--s{SLOTS.index(name)})" if name in SLOTS else "var(--line)"
