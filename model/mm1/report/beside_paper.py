"""Scores beside the paper's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mm1.manifests import Score
from mm1.report.paper import TABLES, PaperTable


@dataclass(frozen=True, kw_only=True)
class OwnRow:
    """This project's scores in the columns of a table of the paper."""

    shots: int
    scores: tuple[Score | None, ...]


@dataclass(frozen=True, kw_only=True)
class BesidePaper:
    """A table of the paper with the scores of an evaluation."""

    table: PaperTable
    own: tuple[OwnRow, ...]
    splits: dict[str, str]
    """Task -> split that was evaluated."""


def beside_paper(scores: Sequence[Score]) -> list[BesidePaper]:
    """Arrange scores, of several splits the first, next to the paper's tables; tables that share no task are omitted."""
    by_key: dict[tuple[str, str, int], Score] = {}
    for score in scores:
        if score.control == "none":
            by_key.setdefault((score.task, score.metric, score.shots), score)
    beside = []
    for table in TABLES:
        shots = sorted({score.shots for score in by_key.values() if score.task in {column.task for column in table.columns}})
        if table.rows and all(row.shots == 0 for row in table.rows):
            shots = [number for number in shots if number == 0]
        rows = tuple(
            OwnRow(
                shots=number,
                scores=tuple(by_key.get((column.task, column.metric, number)) for column in table.columns),
            )
            for number in shots
        )
        rows = tuple(row for row in rows if any(row.scores))
        if rows:
            splits = {score.task: score.split for row in rows for score in row.scores if score}
            beside.append(BesidePaper(table=table, own=rows, splits=splits))
    return beside
