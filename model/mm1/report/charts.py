"""Matplotlib figures as inline SVG that follows the page's light and dark theme.

Figures are drawn with placeholder colours that become CSS variables in the SVG, and text remains text in the page's font.
No global state is used (no pyplot), so reports can be created in any thread.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, LINE = "#a10001", "#a10002", "#a10003"
SERIES = ("#a20000", "#a20001", "#a20002", "#a20003", "#a20004", "#a20005")
SOURCES = ("captions", "interleaved", "text", "instructions")
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", **{color: f"s{index}" for index, color in enumerate(SERIES)}}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def source_slot(name: str, others: Sequence[str] = ()) -> int:
    """Return the colour index of a source, the same everywhere on the page."""
    names = [*SOURCES, *(other for other in others if other not in SOURCES)]
    return names.index(name) % len(SERIES) if name in names else len(SERIES) - 1


def loss_figure(
    steps: np.ndarray,
    losses: Mapping[str, tuple[np.ndarray, np.ndarray]],
    rate: np.ndarray | None,
    *,
    name: str,
    validation: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Markup:
    """Plot loss against step, one curve per source and points for its held-out samples, with the learning rate below.

    Args:
        steps: step of each point, (T,).
        losses: source -> (raw, smoothed), each (T,); NaN for steps without tokens of the source.
        rate: learning rate, (T,), or None.
        name: name for screen readers; also makes the element IDs unique across figures.
        validation: source -> steps and validation losses, each (V,).
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.6, 3.7 if rate is not None else 2.9))
        # Fixed margins: matplotlib's layout engines measure all texts twice and take longer than the drawing.
        label = max(map(len, losses), default=0) + len(" 0.00")
        figure.subplots_adjust(left=0.095, right=0.975 - 0.0142 * label, top=0.985, bottom=0.125, hspace=0.12)
        if rate is not None:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4.6, 1))
            lower.plot(steps, rate, color=MUTED, linewidth=1.2)
            lower.fill_between(steps, rate, color=LINE, linewidth=0, alpha=0.6)
            peak = float(np.nanmax(rate)) or 1.0
            lower.set_ylim(0, peak * 1.15)
            lower.set_yticks([0, peak], ["0", f"{peak:.2g}"])
            lower.set_ylabel("lr")
        else:
            upper = lower = figure.subplots()
        for source, (raw, smooth) in losses.items():
            color = SERIES[source_slot(source, list(losses))]
            upper.plot(steps, raw, color=color, linewidth=0.7, alpha=0.4)
            upper.plot(steps, smooth, color=color, linewidth=1.9)
        for source, (at, values) in (validation or {}).items():
            color = SERIES[source_slot(source, list(losses))]
            upper.plot(at, values, color=color, marker="o", markersize=4, linewidth=0, clip_on=False)
        _frame_losses(upper, steps, losses)
        lower.set_xlabel("step")
        lower.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return inline_svg(figure, f"loss curves of {name}")


def _frame_losses(axes: Axes, steps: np.ndarray, losses: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Set limits that ignore an initial spike, and label each curve at its end."""
    smooth = {source: values[np.isfinite(values)] for source, (_, values) in losses.items()}
    smooth = {source: values for source, values in smooth.items() if values.size}
    if not smooth:
        return
    pooled = np.concatenate(list(smooth.values()))
    low, high = min(0.0, float(pooled.min())), float(pooled.max())
    axes.set_ylim(low, high + 0.05 * (high - low or 1.0))
    axes.set_ylabel("loss per token, nats")
    axes.set_xlim(float(steps.min()), float(steps.max()))
    places = spread_out({source: float(values[-1]) for source, values in smooth.items()}, (axes.get_ylim()[1] - low) * 0.085)
    for source, position in places.items():
        axes.annotate(
            f"{source} {smooth[source][-1]:.2f}",
            (1.0, position),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            color=SERIES[source_slot(source, list(losses))],
            va="center",
            fontweight="bold",
            fontsize=9,
        )


def spread_out(preferred: Mapping[str, float], distance: float) -> dict[str, float]:
    """Spread label positions at least ``distance`` apart, preserving their order."""
    placed: dict[str, float] = {}
    for name in sorted(preferred, key=lambda name: preferred[name]):
        floor = max(placed.values(), default=-np.inf) + distance
        placed[name] = max(preferred[name], floor)
    return placed


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A small plot of one metric."""

    title: str
    steps: np.ndarray
    values: np.ndarray
    smooth: np.ndarray


def panels_figure(panels: Sequence[Panel], *, name: str) -> Markup:
    """Plot metrics against the step, two panels per row: thin raw values, thick smoothed ones."""
    rows = (len(panels) + 1) // 2
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"measures {name}", "font.size": 9}):
        figure = Figure(figsize=(5.6, 1.22 * rows + 0.3))
        height = figure.get_figheight()
        figure.subplots_adjust(left=0.095, right=0.975, top=1 - 0.25 / height, bottom=0.28 / height, hspace=0.62, wspace=0.3)
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(rows, 2, index + 1)
            axes.plot(panel.steps, panel.values, color=SERIES[0], linewidth=0.6, alpha=0.35)
            axes.plot(panel.steps, panel.smooth, color=SERIES[0], linewidth=1.5)
            axes.set_ylim(*_limits(panel))
            axes.set_xlim(float(panel.steps.min()), float(panel.steps.max()))
            axes.set_title(panel.title, loc="left", fontsize=9, color=MUTED, pad=4)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return inline_svg(figure, f"{', '.join(panel.title for panel in panels)} of {name}")


def _limits(panel: Panel) -> tuple[float, float]:
    """Choose limits from 0 (unless all values are far above it) to just above nearly all values, ignoring initial spikes."""
    finite = panel.values[np.isfinite(panel.values)]
    high = max(float(np.quantile(finite, 0.99)), float(np.nanmax(panel.smooth)))
    low = float(finite.min())
    low = low if low > 0.8 * high > 0 else min(0.0, low)
    room = 0.08 * (high - low or abs(high) or 1.0)
    return low - (room if low > 0 else 0.0), high + room


def shots_figure(
    shots: Sequence[int],
    values: Sequence[float],
    errors: Sequence[float],
    *,
    shuffled: Mapping[int, float],
    chance: float | None,
    top: float = 1.0,
    name: str,
) -> Markup:
    """Plot the score of one task against the number of demonstrations, with chance level and wrong-image control.

    Args:
        shots: numbers of demonstrations.
        values: score at each of them.
        errors: standard error of each score.
        shuffled: number of demonstrations -> score with another item's image.
        chance: score of random guessing, if known.
        top: highest value of the axis.
        name: of the score, for people who do not see the plot.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": name, "font.size": 9}):
        figure = Figure(figsize=(2.1, 1.6))
        figure.subplots_adjust(left=0.145, right=0.99, top=0.99, bottom=0.13)
        axes = figure.subplots()
        places = {shot: index for index, shot in enumerate(shots)}
        if chance is not None:
            axes.axhline(chance, zorder=1, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        shuffled_shots = [shot for shot in shots if shot in shuffled]
        if shuffled_shots:
            axes.plot(
                [places[shot] for shot in shuffled_shots],
                [shuffled[shot] for shot in shuffled_shots],
                color=SERIES[1],
                marker="x",
                markersize=5,
                linewidth=1,
                linestyle=":",
            )
        axes.errorbar(
            list(places.values()), values, yerr=errors, color=SERIES[0], marker="o", markersize=5, linewidth=1.8, elinewidth=1.4
        )
        for index, value in enumerate(values):
            rising = index + 1 < len(values) and values[index + 1] > value + 0.1 * top
            axes.annotate(
                f"{value:.2f}",
                (index, value),
                xytext=(-6 if rising else 0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axes.set_ylim(-0.02 * top, 1.19 * top)
        axes.set_yticks([0, top / 2, top], [f"{tick:.3g}" for tick in (0, top / 2, top)])
        axes.set_xlim(-0.35, len(shots) - 0.65)
        axes.set_xticks(list(places.values()), [str(shot) for shot in shots])
        return inline_svg(figure, f"score of {name} against the number of demonstrations")


def inline_svg(figure: Figure, label: str) -> Markup:
    """Convert a figure to an inline SVG element."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    head, _, body = text.partition(">")
    view = re.search(r'viewBox="[^"]+"', head)
    box = view.group(0) if view else ""
    for color, variable in VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # group IDs: unused, and not unique across figures
    body = re.sub(r"\n\s*", "\n", body)
    return Markup('<svg class="chart" role="img" aria-label="{}" {}>').format(escape(label), Markup(box)) + Markup(body)
