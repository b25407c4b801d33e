"""Figures of fitted laws: best learning rates by size, losses by learning rate, losses by size with a prediction."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from mm1.report.charts import INK, LINE, MUTED, SERIES, STYLE, inline_svg
from mm1.studies.fit import INTERCEPT, SLOPE, Law
from mm1.studies.ladder import LadderResult

SIZE = (4.6, 2.7)
MARGINS = {"left": 0.2, "right": 0.97, "top": 0.95, "bottom": 0.17}
WITHIN = 0.3
"""Room left and right of the sizes, as a factor of the size in log space."""


def law_figure(law: Law, name: str) -> Markup:
    """Plot the best learning rate of each size with its error, the fitted law, and the paper's."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"law {name}"}):
        figure = Figure(figsize=SIZE)
        figure.subplots_adjust(**MARGINS)
        axes = figure.subplots()
        sizes = np.array([point.size for point in law.optima])
        grid = np.geomspace(sizes.min() * (1 - WITHIN), sizes.max() * (1 + WITHIN), 50)
        axes.plot(grid, np.exp(SLOPE * np.log(grid) + INTERCEPT), color=MUTED, linewidth=1.3, linestyle="--", label="MM1")
        axes.plot(grid, np.exp(law.slope * np.log(grid) + law.intercept), color=SERIES[0], linewidth=1.8, label="fit")
        for point in law.optima:
            error = point.stderr or 0.0
            ends = point.rate * np.exp([-error, error])
            axes.plot([point.size] * 2, ends, color=SERIES[0], linewidth=1.6)
            axes.plot([point.size], [point.rate], color=SERIES[0], marker="o", markersize=6, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="N, non-embedding parameters", ylabel="best learning rate")
        axes.legend(frameon=False, labelcolor=INK)
        return inline_svg(figure, f"best learning rate by size, {name}")


def rates_figure(law: Law, score: str, name: str) -> Markup:
    """Plot a score by learning rate, one line per size, with the best rates."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"rates {name}"}):
        figure = Figure(figsize=SIZE)
        figure.subplots_adjust(**MARGINS)
        axes = figure.subplots()
        for number, point in enumerate(law.optima):
            color = SERIES[number % len(SERIES)]
            rates, values = zip(*point.values.items(), strict=True)
            axes.plot(rates, values, color=color, marker="o", markersize=4, linewidth=1.5, label=f"{point.size:,.0f}")
            axes.axvline(point.rate, color=color, linewidth=1, linestyle=":")
        axes.legend(title="N", frameon=False, labelcolor=INK, fontsize=8)
        axes.set(xscale="log", xlabel="learning rate", ylabel=score)
        return inline_svg(figure, f"{score} by learning rate, {name}")


def ladder_figure(result: LadderResult, name: str) -> Markup:
    """Plot the losses of the smaller sizes, the curve, the predicted interval and the measured losses of the largest size."""
    assert result.curve is not None and result.prediction is not None
    curve, prediction = result.curve, result.prediction
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"ladder {name}"}):
        figure = Figure(figsize=SIZE)
        figure.subplots_adjust(**MARGINS)
        axes = figure.subplots()
        smallest = min(rung.size for rung in result.rungs)
        grid = np.geomspace(smallest * (1 - WITHIN), prediction.size * (1 + WITHIN), 60)
        axes.plot(grid, [curve.loss(size, prediction.tokens) for size in grid], color=MUTED, linewidth=1.4)
        sizes, losses = zip(*((rung.size, rung.loss) for rung in result.rungs), strict=True)
        axes.plot(sizes, losses, color=SERIES[0], marker="o", markersize=5, linewidth=0)
        axes.plot([prediction.size] * 2, prediction.interval, color=LINE, linewidth=7, solid_capstyle="butt")
        axes.plot([prediction.size], [prediction.loss], color=MUTED, marker="D", markersize=5, linewidth=0)
        measured = list(result.measured.values())
        axes.plot([prediction.size] * len(measured), measured, color=SERIES[1], marker="o", markersize=5, linewidth=0)
        axes.set(xscale="log", xlabel="N, non-embedding parameters", ylabel="loss per token, nats")
        return inline_svg(figure, f"loss by size with a prediction, {name}")
