"""The definition of a metric, from which its exposition, documentation, panels and alerts are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric in Prometheus' sense."""

    name: str
    """Name without the suffix of its kind."""
    kind: Kind = "gauge"
    help: str
    """One sentence, also for the page of all metrics."""
    unit: str = ""
    labels: tuple[str, ...] = ()
    """Labels besides those that all metrics of its table have."""
    field: str = ""
    """Path in the trainer's progress line of the value, or of a map from the label's values to values; empty = of no line."""
    grows: bool = False
    """Whether the value of the line is an age in seconds, which has grown since the line."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names in queries."""
        return tuple(f"{self.name}{suffix}" for suffix in SUFFIXES[self.kind])


def by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Return metrics by name.

    Raises:
        ValueError: two have the same name.
    """
    table: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in table:
            raise ValueError(f"metric {metric.name} is defined twice")
        table[metric.name] = metric
    return table
