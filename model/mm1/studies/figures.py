"""Figures of the page of studies: effects with intervals, scores by level and by shots, losses by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mm1.report.charts import INK, LINE, MUTED, SERIES, STYLE, inline_svg
from mm1.studies.curves import Curve, LevelScore, ShotsPanel
from mm1.studies.results import ScoreTable
from mm1.studies.verdict import Verdict

SMALL = {**STYLE, "font.size": 9}
LONG_LABEL = 9
"""Characters from which labels of levels are slanted."""
LONGEST_LABEL = 18
"""Characters of a label; longer ones are cut. The table above the figure has them in full."""
MANY_LEVELS = 5
"""Levels from which long labels are upright, so that they do not overlap."""
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆"}
"""Marker of a figure -> the same as a character. The next one is used when the colours are used up."""


def color_of(level: str, levels: Iterable[str]) -> str:
    """Return the colour of a level, the same in all figures of its study."""
    return SERIES[list(levels).index(level) % len(SERIES)]


def marker_of(level: str, levels: Iterable[str]) -> str:
    """Return the marker of a level: that and its colour tell up to 24 levels apart."""
    return list(MARKERS)[list(levels).index(level) // len(SERIES) % len(MARKERS)]


def effect_figure(verdict: Verdict, name: str) -> Markup | None:
    """Plot an effect with its 95 % interval, the effect of each seed, and the band of effects that are too small to matter.

    Returns:
        The figure; None if there is no effect.
    """
    if verdict.effect is None:
        return None
    margin = verdict.claim.effect
    points = [0.0, -margin, margin, verdict.effect, *verdict.by_seed.values()]
    ends = [end for end in (verdict.low, verdict.high) if end is not None]
    span = max(points) - min(points)
    low = max(min([*points, *ends]), min(points) - span)  # an interval of one degree of freedom would hide the rest
    high = min(max([*points, *ends]), max(points) + span)
    with mpl.rc_context({**SMALL, "svg.hashsalt": f"effect {name}", "axes.grid": False, "axes.spines.left": False}):
        figure = Figure(figsize=(4.3, 0.85))
        figure.subplots_adjust(left=0.02, right=0.98, top=0.98, bottom=0.3)
        axes = figure.subplots()
        axes.axvspan(-margin, margin, color=LINE, linewidth=0, alpha=0.55)
        axes.axvline(0, color=MUTED, linewidth=1)
        if len(ends) == 2:
            axes.plot([max(low, ends[0]), min(high, ends[1])], [1, 1], color=SERIES[0], linewidth=2, solid_capstyle="butt")
        axes.plot([verdict.effect], [1], color=SERIES[0], marker="o", markersize=7, linewidth=0)
        seeds = list(verdict.by_seed.values())
        axes.plot(seeds, [0.35] * len(seeds), color=INK, marker="|", markersize=7, linewidth=0)
        axes.set_ylim(0, 1.5)
        axes.set_yticks([])
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return inline_svg(figure, f"effect of {name}: {verdict.sentence}")


def score_figure(table: ScoreTable, name: str) -> Markup | None:
    """Plot a score by level: mean with standard error, and the value of each seed; None if no level has it."""
    scores = {level: score for level, score in table.levels.items() if score}
    if not scores:
        return None
    with mpl.rc_context({**SMALL, "svg.hashsalt": f"score {name}"}):
        angle = _angle(list(scores))
        figure, axes = _panel(angle)
        for index, (level, score) in enumerate(scores.items()):
            seeds = list(score.by_seed.values())
            axes.plot([index + 0.14] * len(seeds), seeds, color=MUTED, marker="_", markersize=6, linewidth=0)
            color, marker = color_of(level, table.levels), marker_of(level, table.levels)
            error = [score.stderr or 0.0]
            axes.errorbar([index], [score.mean], yerr=error, color=color, marker=marker, markersize=6, elinewidth=1.6)
        labels = [level if len(level) <= LONGEST_LABEL else f"{level[: LONGEST_LABEL - 1]}…" for level in scores]
        axes.set_xticks(range(len(scores)), labels, rotation=angle, ha="right" if 0 < angle < 90 else "center")
        axes.set_xlim(-0.5, len(scores) - 0.5)
        is_share = not table.score.unit and not table.score.minus
        _limits(axes, [value for score in scores.values() for value in (score.mean, *score.by_seed.values())], is_share)
        return inline_svg(figure, f"{table.name} by level of {name}")


def _angle(levels: Sequence[str]) -> int:
    """Return the angle of the labels of levels, in degrees: slanted if they are long, upright if there are many."""
    if max(map(len, levels)) <= LONG_LABEL or len(levels) <= 2:
        return 0 if len(levels) * max(map(len, levels)) < 60 else 90
    return 90 if len(levels) >= MANY_LEVELS else 25


def shots_figure(panel: ShotsPanel, levels: Sequence[str], name: str) -> Markup:
    """Plot a metric by the number of demonstrations, one line per level, with standard errors."""
    shots = sorted({number for scores in panel.levels.values() for number in scores})
    with mpl.rc_context({**SMALL, "svg.hashsalt": f"shots {name}"}):
        figure, axes = _panel()
        for number, (level, scores) in enumerate(panel.levels.items()):
            shift = 0.5 / max(10, len(panel.levels)) * (number - (len(panel.levels) - 1) / 2)
            _line(axes, shots, scores, color_of(level, levels), marker_of(level, levels), shift)
        axes.set_xticks(range(len(shots)), [str(number) for number in shots])
        axes.set_xlim(-0.35, len(shots) - 0.65)
        _limits(axes, [score.mean for scores in panel.levels.values() for score in scores.values()], is_share=True)
        return inline_svg(figure, f"{panel.metric} of {panel.task} by the number of demonstrations, {name}")


def _line(axes: Axes, shots: Sequence[int], scores: Mapping[int, LevelScore], color: str, marker: str, shift: float) -> None:
    axes.errorbar(
        [shots.index(number) + shift for number in scores],
        [score.mean for score in scores.values()],
        yerr=[score.stderr or 0.0 for score in scores.values()],
        color=color,
        marker=marker,
        markersize=4.5,
        linewidth=1.6,
        elinewidth=1.2,
    )


def curve_figure(curves: Mapping[str, Curve], levels: Sequence[str], name: str) -> Markup:
    """Plot the loss of a source by step, one line per level: mean and range over seeds."""
    with mpl.rc_context({**SMALL, "svg.hashsalt": f"curve {name}"}):
        figure, axes = _panel()
        for level, curve in curves.items():
            color = color_of(level, levels)
            axes.fill_between(curve.steps, curve.low, curve.high, color=color, linewidth=0, alpha=0.25)
            axes.plot(curve.steps, curve.mean, color=color, linewidth=1.5)
            if (marker := marker_of(level, levels)) != "o":  # circles: the colour alone
                axes.plot(curve.steps, curve.mean, color=color, marker=marker, markersize=4, markevery=0.15, linewidth=0)
        later = [value for curve in curves.values() for value in curve.high[len(curve.high) // 10 :]]
        axes.set_ylim(0, 1.08 * max(later))  # without the first steps
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return inline_svg(figure, f"loss of {name} by step")


def _panel(angle: int = 0) -> tuple[Figure, Axes]:
    height, bottom = {0: (2.15, 0.28), 25: (2.35, 0.72), 90: (3.0, 1.3)}[angle]  # inches
    figure = Figure(figsize=(3.4, height))
    figure.subplots_adjust(left=0.13, right=0.985, top=1 - 0.086 / height, bottom=bottom / height)
    return figure, figure.subplots()


def _limits(axes: Axes, values: Sequence[float], is_share: bool) -> None:
    """Set limits from 0 to 1 for shares, otherwise with room around the values; errors beyond them are cut."""
    low, high = min(values), max(values)
    if is_share and low >= 0 and high <= 1:
        axes.set_ylim(-0.03, 1.05)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        return
    room = 0.25 * (high - low or abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(4))
