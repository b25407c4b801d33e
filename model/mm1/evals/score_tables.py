"""Scores as tables of text: for the terminal, as Markdown, as CSV and as LaTeX. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from mm1.lineage.text import split_labels
from mm1.manifests import Score

CONTROLS = {"none": "", "shuffled": ", images shuffled", "text_demonstrations": ", demonstrations of text"}
CSV_COLUMNS = ("task", "split", "metric", "shots", "control", "value", "stderr", "num_items", "chance")
"""Columns of the CSV, fields of `Score`."""
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """The scores of a task, split, metric and control."""

    task: str
    """With the split if there are several of it, and the control."""
    metric: str
    cells: tuple[str, ...]
    """Score and standard error at each number of shots; empty where there is none."""
    chance: str
    """Score of random guessing; empty if it is not known."""
    num_items: str


def _arranged(scores: Sequence[Score]) -> tuple[list[str], list[ScoreRow]]:
    """Return the heads of the cells (``4 shots``), and the rows."""
    shots = sorted({score.shots for score in scores})
    labels = split_labels((score.task, score.split) for score in scores)
    grouped: dict[tuple[str, str, str], dict[int, Score]] = {}
    for score in scores:
        grouped.setdefault((labels[score.task, score.split], score.metric, score.control), {})[score.shots] = score
    rows = []
    for (task, metric, control), by_shots in grouped.items():
        first = next(iter(by_shots.values()))
        row = ScoreRow(
            task=task + CONTROLS[control],
            metric=metric,
            cells=tuple(_cell(by_shots.get(number)) for number in shots),
            chance="" if first.chance is None else f"{first.chance:.2f}",
            num_items=str(first.num_items),
        )
        rows.append(row)
    return [f"{number} shots" for number in shots], rows


def _cell(score: Score | None) -> str:
    return f"{score.value:.3f} ± {score.stderr:.3f}" if score else ""


def score_table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Arrange all scores: one row per task, split, metric and control, one column per number of shots.

    Returns:
        The heads of the columns, and the rows.
    """
    heads, rows = _arranged(scores)
    return ["task", "metric", *heads, "chance", "items"], [
        [row.task, row.metric, *row.cells, row.chance, row.num_items] for row in rows
    ]


def scores_markdown(scores: Sequence[Score]) -> str:
    """Format a table of all scores in Markdown, under a title."""
    heads, rows = score_table(scores)
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(["# Evaluation", "", *lines, "", "± standard error over items.", ""])


def scores_csv(scores: Sequence[Score]) -> str:
    """Write scores as CSV, one row each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for score in scores:
        values = score.model_dump()
        writer.writerow(["" if values[name] is None else values[name] for name in CSV_COLUMNS])
    return out.getvalue()


def scores_latex(scores: Sequence[Score], caption: str = "") -> str:
    """Write the scores without controls as a LaTeX table (package booktabs), one column per number of shots."""
    heads, rows = _arranged([score for score in scores if score.control == "none"])
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{ll{'r' * (len(heads) + 1)}}}", r"\toprule"]
    lines += [_latex_row(["task", "metric", *heads, "items"]), r"\midrule"]
    lines += [_latex_row([row.task, row.metric, *(cell or "--" for cell in row.cells), row.num_items]) for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        lines.append(rf"\caption{{{_escape(caption)}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
