"""Scores as tables: against the paper's, as CSV, and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from mm1.lineage.text import split_labels
from mm1.manifests import Score
from mm1.report.paper import TABLES, PaperTable

COLUMNS = ("task", "split", "metric", "shots", "control", "value", "stderr", "num_items", "chance")
"""Columns of the CSV, fields of `Score`."""
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


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


def scores_csv(scores: Sequence[Score]) -> str:
    """Write scores as CSV, one row each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for score in scores:
        values = score.model_dump()
        writer.writerow(["" if values[name] is None else values[name] for name in COLUMNS])
    return out.getvalue()


def scores_latex(scores: Sequence[Score], caption: str = "") -> str:
    """Write scores as a LaTeX table (package booktabs): one row per task and metric, one column per number of shots."""
    scores = [score for score in scores if score.control == "none"]
    shots = sorted({score.shots for score in scores})
    labels = split_labels((score.task, score.split) for score in scores)
    by_row: dict[tuple[str, str], dict[int, Score]] = {}
    for score in scores:
        by_row.setdefault((labels[score.task, score.split], score.metric), {})[score.shots] = score
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{ll{'r' * (len(shots) + 1)}}}", r"\toprule"]
    lines += [" & ".join(["task", "metric", *(f"{number} shots" for number in shots), "items"]) + r" \\", r"\midrule"]
    for (task, metric), row in by_row.items():
        cells = [f"{row[n].value:.3f} $\\pm$ {row[n].stderr:.3f}" if n in row else "--" for n in shots]
        items = str(next(iter(row.values())).num_items)
        lines.append(" & ".join([_escape(task), _escape(metric), *cells, items]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        lines.append(rf"\caption{{{_escape(caption)}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
