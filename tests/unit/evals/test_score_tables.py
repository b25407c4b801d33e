"""Scores as tables of text."""

from __future__ import annotations

import csv
import io

from mm1.evals.score_tables import score_table, scores_csv, scores_latex
from mm1.manifests import Score


def score(task: str, metric: str, value: float, shots: int = 0, **fields) -> Score:
    return Score(task=task, split="val", metric=metric, shots=shots, value=value, stderr=0.01, num_items=100, **fields)


def test_scores_are_exported_as_csv_and_latex():
    scores = [score("ok_vqa", "accuracy", 0.5), score("ok_vqa", "accuracy", 0.625, shots=4, chance=0.25)]
    rows = list(csv.DictReader(io.StringIO(scores_csv(scores))))
    assert [(r["shots"], r["value"], r["chance"]) for r in rows] == [("0", "0.5", ""), ("4", "0.625", "0.25")]
    latex = scores_latex(scores, "50 % of $x_1$")
    assert r"ok\_vqa & accuracy & 0.500 $\pm$ 0.010 & 0.625 $\pm$ 0.010 & 100 \\" in latex
    assert r"\caption{50 \% of \$x\_1\$}" in latex


def test_controls_are_rows_for_people_and_are_left_out_of_a_paper():
    scores = [score("vqa", "accuracy", 0.5), score("vqa", "accuracy", 0.25, shots=4, control="shuffled")]
    _, rows = score_table(scores)
    assert rows == [
        ["vqa", "accuracy", "0.500 ± 0.010", "", "", "100"],
        ["vqa, images shuffled", "accuracy", "", "0.250 ± 0.010", "", "100"],
    ]
    latex = scores_latex(scores)
    assert "shuffled" not in latex and "4 shots" not in latex
