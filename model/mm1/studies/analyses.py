"""Analyses of studies: what is computed besides scores, and its section of the results and of the page. Torch-free.

A study's ``analysis`` names its function in :data:`ANALYSES`. The analysis ``levels`` judges claims and needs no function.
Other analyses return a :class:`Section`: numbers for ``studies.json``, verdicts, and blocks for the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mm1.studies.cells import StudyData
from mm1.studies.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a section of the page: text, then a table, then a figure; empty ones are omitted."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """The outcome of an analysis."""

    results: dict[str, Any]
    """For ``studies.json``."""
    verdicts: tuple[Verdict, ...] = ()
    """Further verdicts, listed after those on the claims."""
    blocks: tuple[Block, ...] = ()
    """For the page, in order."""


Analysis = Callable[[StudyData], Section]
ANALYSES: dict[str, Analysis] = {}
"""Name of an analysis (``Study.analysis``) -> its function."""


def analyse(data: StudyData) -> Section | None:
    """Run the analysis of a study; None if it has none besides its claims."""
    analysis = ANALYSES.get(data.study.analysis)
    return analysis(data) if analysis else None
