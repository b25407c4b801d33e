"""The page of a run of studies: all lessons with their verdicts, then each study next to the paper.

::

    Results, sections of the analyses -> figures, pictures -> Jinja2 -> HTML (self-contained, as the report of a run)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mm1.report.album import Album, Picture
from mm1.report.charts import VARIABLES
from mm1.report.config import ReportConfig
from mm1.report.items import ImageOf, pieces_of
from mm1.report.page import environment
from mm1.studies.differences import DifferingItem
from mm1.studies.figures import MARKERS, color_of, curve_figure, effect_figure, marker_of, score_figure, shots_figure
from mm1.studies.results import Results, StudyResult
from mm1.studies.section import Section
from mm1.studies.verdict import Verdict

TEMPLATES = Path(__file__).parent / "templates"
TONES = {"shown": "good", "opposite": "bad", "not shown": "part", "incomplete": "muted"}
MARKS = {"shown": "✓", "opposite": "⇄", "not shown": "○", "incomplete": "…"}
TITLE = "The paper's lessons"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its heading."""

    title: str
    note: str
    figure: Markup


@dataclass(frozen=True, kw_only=True)
class ItemView:
    """An item that two levels answered differently, for the template."""

    item: DifferingItem
    pieces: list[str | Picture]


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study for the template."""

    result: StudyResult
    colors: dict[str, str]
    """Level -> CSS variable of its colour."""
    marks: dict[str, str]
    """Level -> its marker in figures."""
    effects: list[tuple[Verdict, Markup | None]]
    scores: list[Figure]
    shots: list[Figure]
    curves: list[Figure]
    items: dict[str, list[ItemView]]
    """Claim -> items."""
    section: Section | None


def render_results(
    results: Results,
    sections: Mapping[str, Section],
    image_of: ImageOf,
    facts: Mapping[str, Any],
    title: str = TITLE,
    config: ReportConfig | None = None,
) -> str:
    """Create the page of a run of studies.

    Args:
        results: the results.
        sections: study -> section of its analysis, for those that have one.
        image_of: returns an image by its SHA-256, None if it is not at hand.
        facts: facts for the end of the page, such as date and machine.
        title: heading.
        config: limits of the page.
    """
    album = Album(config=config or ReportConfig())
    views = {
        "title": title,
        "results": results,
        "studies": [_view(study, sections.get(study.name), image_of, album) for study in results.studies],
        "facts": facts,
        "tones": TONES,
        "marks": MARKS,
    }
    return environment(TEMPLATES).get_template("studies.html.j2").render(views)


def _view(study: StudyResult, section: Section | None, image_of: ImageOf, album: Album) -> StudyView:
    levels = list(study.levels)
    items: dict[str, list[ItemView]] = {}
    for item in study.items:
        pieces = pieces_of(item.prompt, item.images, image_of, album)
        items.setdefault(item.says, []).append(ItemView(item=item, pieces=pieces))
    return StudyView(
        result=study,
        colors={level: VARIABLES[color_of(level, levels)] for level in levels},
        marks={level: MARKERS[marker_of(level, levels)] for level in levels},
        effects=[(verdict, effect_figure(verdict, f"{study.name} {number}")) for number, verdict in enumerate(study.verdicts)],
        scores=_score_figures(study),
        shots=_shots_figures(study, levels),
        curves=_curve_figures(study, levels),
        items=items,
        section=section,
    )


def _score_figures(study: StudyResult) -> list[Figure]:
    figures = [(table, score_figure(table, f"{study.name} {table.name}")) for table in study.scores]
    return [Figure(title=table.name, note=table.score.unit, figure=figure) for table, figure in figures if figure]


def _shots_figures(study: StudyResult, levels: Sequence[str]) -> list[Figure]:
    named = [(panel, f"{study.name} {panel.task} {panel.metric}") for panel in study.shots]
    return [Figure(title=panel.task, note=panel.metric, figure=shots_figure(panel, levels, name)) for panel, name in named]


def _curve_figures(study: StudyResult, levels: Sequence[str]) -> list[Figure]:
    return [
        Figure(title=source, note="loss per token, nats", figure=curve_figure(curves, levels, f"{study.name} {source}"))
        for source, curves in study.curves.items()
    ]
