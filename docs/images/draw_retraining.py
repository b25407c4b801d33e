"""Draw the requests of a client while models are retrained and rolled out: ``draw_retraining.py record.json retraining.svg``.

The record is what tests/cluster/test_cluster_retrain.py writes to MM1_CLUSTER_RECORD.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

COLOURS = ("#4c72b0", "#55a868", "#8172b3")
"""Of the models, in the order of their first answers."""
FAILED = "#c44e52"
MARGIN = 0.25
"""Least distance of two labels, minutes."""


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw durations of requests over time, coloured by the model that answered, with events as lines."""
    start = record["requests"][0][0]
    by_outcome: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for moment, seconds, outcome in record["requests"]:
        by_outcome[outcome].append(((moment - start) / 60, seconds * 1000))
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mm1", "font.size": 9, "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    colours = iter(COLOURS)
    for outcome, points in by_outcome.items():
        is_answer = outcome.startswith("ok ")
        label = f"model {outcome[3:11]}: {len(points):,} answers" if is_answer else f"{outcome}: {len(points):,}"
        style = {"color": next(colours) if is_answer else FAILED, "marker": "." if is_answer else "x"}
        axes.plot(*zip(*points, strict=True), linestyle="", markersize=3, rasterized=True, label=label, **style)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 100)
    axes.set_xlim(left=0, right=(record["requests"][-1][0] - start) / 60 + MARGIN)
    for minutes, what in labels(record, start):
        axes.axvline(minutes, color="0.6", linewidth=0.7)
        position = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(what, (minutes, 0.98), xytext=(2, 0), rotation=90, ha="left", va="top", fontsize=7, **position)
    axes.set_xlabel("minutes since the client's first request")
    axes.set_ylabel("duration of a request (ms)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, markerscale=3)
    figure.savefig(path, metadata={"Date": None}, dpi=110)


def labels(record: dict[str, Any], start: float) -> list[tuple[float, str]]:
    """Return times (minutes since the start) and texts, one below another where their lines would meet."""
    texts: list[tuple[float, str]] = []
    for moment, what in events(record):
        minutes = (moment - start) / 60
        if texts and minutes - texts[-1][0] < MARGIN:
            texts[-1] = (texts[-1][0], f"{texts[-1][1]}\n{what}")
        elif minutes >= 0:
            texts.append((minutes, what))
    return texts


def events(record: dict[str, Any]) -> list[tuple[float, str]]:
    """Return times (s since 1970) and short texts of what happened, in order."""
    numbers: dict[str, int] = {}
    texts = []
    for event in record["events"]:
        text = event["what"]
        run = next((word for word in text.split() if word.startswith("mm1-retrain-")), "")
        if run:
            text = text.replace(run, str(numbers.setdefault(run, len(numbers) + 1)))
        texts.append((event["time"], text))
    for change in record["changes"]:
        moment = datetime.fromisoformat(change["time"]).timestamp()
        texts.append((moment, f"{change['action']}: {change['deployment'][:8]}"))
    return sorted(texts)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text()), target)
