"""The page of an evaluation: scores beside the paper's, by question type, and answers with what the model saw.

scores, table of answers -> views -> Jinja2 -> HTML (self-contained, as the report of a run)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mm1.manifests import Score
from mm1.report.album import Album
from mm1.report.config import ReportConfig
from mm1.report.items import ImageOf, Row, groups
from mm1.report.page import environment
from mm1.report.scores import score_table


def render_evaluation(
    title: str,
    scores: Sequence[Score],
    rows: Iterable[Row],
    image_of: ImageOf,
    facts: Mapping[str, Any],
    config: ReportConfig | None = None,
) -> str:
    """Create the page of an evaluation.

    Args:
        title: name of the model.
        scores: all scores.
        rows: rows of the table of answers.
        image_of: returns an image by its SHA-256, None if it is not kept.
        facts: settings and figures for the end of the page, such as the configuration and the time.
        config: limits of the page.
    """
    config = config or ReportConfig()
    views = {
        "title": title,
        "table": score_table(scores, title),
        "groups": groups(rows, image_of, Album(config=config), config),
        "facts": facts,
    }
    return environment().get_template("evaluation.html.j2").render(views)
