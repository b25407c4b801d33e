"""Training metrics other than the loss: small plots from the history and from the trainer's measurements.

The history (part of the checkpoint) contains the reproducible metrics: gradient norm, padding, routers. Speed, MFU and
memory are in ``metrics.jsonl``, an artifact of the training task.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from mm1.errors import Mm1Error
from mm1.report.charts import Panel, panels_figure
from mm1.report.collect import RunStory, artifact
from mm1.report.config import ReportConfig

log = logging.getLogger(__name__)

HISTORY = {
    "retrieval": ("captions found in the batch, %", 100.0),
    "grad_norm": ("gradient norm", 1.0),
    "padding": ("padding, %", 100.0),
    "router/load_max": ("max expert load, 1 = balanced", 1.0),
    "router/entropy": ("router entropy, 1 = balanced", 1.0),
    "router/dropped": ("dropped by routers, %", 100.0),
}
"""Column -> title and factor."""
HELD_OUT = "retrieval/"
"""Start of the columns with the retrieval of held-out pairs by source."""
MEASURED = {"tokens_per_s": ("tokens/s", 1.0), "mfu": ("MFU, %", 100.0), "memory_bytes": ("memory of rank 0, GB", 1e-9)}


def measures(columns: Mapping[str, np.ndarray], rows: list[dict[str, Any]], config: ReportConfig, name: str) -> Markup | None:
    """Draw one figure with a small plot for each available column; None if there are none.

    Args:
        columns: columns of the history, each (T,), including ``step``.
        rows: rows of metrics.jsonl.
        config: limits of the page.
        name: name of the figure.
    """
    columns = dict(columns)
    if "positions" in columns and "tokens" in columns:
        columns["padding"] = 1 - columns["tokens"] / np.maximum(columns["positions"], 1)
    steps = np.array([row["step"] for row in rows], dtype=float)
    measured = {column: np.array([row.get(column, np.nan) for row in rows], dtype=float) for column in MEASURED}
    held_out = {
        column: f"held-out {column.removeprefix(HELD_OUT)} found, %" for column in columns if column.startswith(HELD_OUT)
    }
    history = HISTORY | {column: (title, 100.0) for column, title in held_out.items()}
    panels = []
    for titles, data, at in ((history, columns, columns["step"]), (MEASURED, measured, steps)):
        for column, (title, factor) in titles.items():
            values = data.get(column)
            if values is not None and np.isfinite(values).sum() > 1:
                panels.append(_panel(title, at, factor * values, config))
    return panels_figure(panels, name=name) if panels else None


def _panel(title: str, steps: np.ndarray, values: np.ndarray, config: ReportConfig) -> Panel:
    thin = thinned(steps.size, config.curve_points)
    smooth = smoothed(values, max(1.0, config.smoothing_share * steps.size))
    return Panel(title=title, steps=steps[thin], values=values[thin], smooth=smooth[thin])


def thinned(number: int, most: int) -> np.ndarray:
    """Return the indices of at most ``most`` evenly spaced points, including the first and the last."""
    return np.unique(np.linspace(0, number - 1, min(most, number)).round().astype(int))


def smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Compute the centred Gaussian-weighted mean that skips gaps; same shape as ``values``.

    Args:
        values: (T,), NaN for gaps.
        width: standard deviation of the weights, in steps.
    """
    reach = max(1, round(3 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), weights, mode="full")[reach:-reach]
    weight = np.convolve(finite.astype(float), weights, mode="full")[reach:-reach]
    return np.divide(total, weight, out=np.full(values.shape, np.nan), where=weight > 1e-9)


def measured_rows(story: RunStory, task: str) -> list[dict[str, Any]]:
    """Read the rows of a task's metrics.jsonl; none, with a remark on the page, if they cannot be read."""
    try:
        ref = artifact(story, task, "metrics.jsonl")
        lines = story.store.get_bytes(ref).decode().splitlines() if ref else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [row for row in rows if isinstance(row["step"], int)]
    except (Mm1Error, ValueError, KeyError, TypeError) as error:
        log.warning("metrics.jsonl of %s: %s", task, error)
        story.problems.append(f"metrics.jsonl of task {task} cannot be read: {error}")
        return []
