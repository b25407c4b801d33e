"""Analyses of studies: what is computed besides scores, and its section of the results and of the page. Torch-free.

A study's ``analysis`` names its function in :data:`ANALYSES`. The analysis ``levels`` judges claims and needs no function.
Other analyses return a :class:`~mm1.studies.section.Section`: numbers for ``studies.json``, verdicts, blocks for the page.
"""

from __future__ import annotations

from collections.abc import Callable

from mm1.studies.cells import StudyData
from mm1.studies.laws import learning_rate, scaling
from mm1.studies.section import Section

Analysis = Callable[[StudyData], Section]
ANALYSES: dict[str, Analysis] = {"learning_rate": learning_rate, "scaling": scaling}
"""Name of an analysis (``Study.analysis``) -> its function."""


def analyse(data: StudyData) -> Section | None:
    """Run the analysis of a study; None if it has none besides its claims."""
    analysis = ANALYSES.get(data.study.analysis)
    return analysis(data) if analysis else None
