"""The page of an evaluation."""

from __future__ import annotations

from mm1.manifests import Score
from mm1.report.beside_paper import beside_paper
from mm1.report.config import ReportConfig
from mm1.report.evaluation_page import render_evaluation
from tests.support.tiny_mm1 import picture

HOSTILE = "<script>alert(1)</script>"


def score(task: str, metric: str, value: float, shots: int = 0, **fields) -> Score:
    return Score(task=task, split="val", metric=metric, shots=shots, value=value, stderr=0.01, num_items=100, **fields)


def row(number: int, value: float, **fields):
    return {
        "task": "vqav2",
        "split": "val",
        "shots": 4,
        "control": "none",
        "draw": 0,
        "item": str(number),
        "question_type": "number" if number % 2 else "other",
        "prompt": f"<image>Question: how many {number}? Short answer: 2 <image>Question: which {HOSTILE}? Short answer:",
        "images": ["a", "b"],
        "references": ["2", "two", "2"],
        "choices": [],
        "logprobs": [],
        "output": f" answer {number} {HOSTILE}",
        "prediction": f"answer {number}",
        "values": [("accuracy", value)],
        "finish_reason": "length" if number == 3 else "stop",
    } | fields


def page(rows, scores=(), **limits) -> str:
    images = {"a": picture(1), "b": picture(2)}
    return render_evaluation("a model", scores, rows, images.get, {"seed": 0}, ReportConfig(**limits))


def test_an_item_shows_what_the_model_saw_and_said():
    html = page([row(1, 0.0), row(2, 1.0), row(3, 0.3)])
    assert html.count("<img") == 6 and "how many 1?" in html
    assert html.count("✗ wrong") == html.count("✓ right") == html.count("◐ partly right") == 1
    assert "2 / two" in html and "1 cut at the limit of new tokens" in html
    assert HOSTILE not in html and "&lt;script&gt;" in html


def test_an_image_that_is_not_kept_leaves_a_note():
    assert "image not kept" in page([row(1, 0.0, images=["a", "missing"])])


def test_wrong_and_right_answers_are_shown_in_equal_numbers():
    html = page([row(n, float(n < 90)) for n in range(100)], items_per_group=8)
    assert html.count("✗ wrong") == html.count("✓ right") == 4 and "8 of 100" in html


def test_types_of_questions_are_broken_down():
    html = page([row(1, 0.0), row(2, 1.0), row(4, 0.5)])
    assert "By type of question" in html and "0.750" in html and "0.000" in html
    rows = [row(number, 1.0, draw=draw) for draw in range(3) for number in (1, 2, 4)]
    assert '<td>other</td><td class="num">1.000</td><td class="num">2</td>' in page(rows), "draws are not items"


def test_choices_are_shown_by_likelihood():
    html = page([row(1, 1.0, choices=["cat", "dog"], logprobs=[-3.0, -1.0])])
    assert html.index("dog (-1.00)") < html.index("cat (-3.00)")


def test_a_test_set_has_answers_and_no_scores():
    html = page([row(1, 0.0, values=[], references=[])])
    assert "this is a test set" in html and "not scored" in html and "✗ wrong" not in html


def test_scores_stand_beside_the_papers():
    scores = [
        score("coco", "cider", 1.146, shots=8),
        score("vqav2", "accuracy", 0.5, shots=8),
        score("vqav2", "accuracy", 0.4, shots=8, control="shuffled"),
    ]
    (beside,) = beside_paper(scores)
    (own,) = beside.own
    assert own.shots == 8 and own.scores[0] is scores[0] and own.scores[3] is scores[1]
    assert any(row.model == "MM1-3B" and row.values[0] == 114.6 for row in beside.table.rows)
    html = page([], scores)
    assert "this model" in html and "<b>114.6</b>" in html and "coco val, vqav2 val" in html
    assert [each.table.title for each in beside_paper([score("mme", "mme_perception", 1200.0)])] == [
        "After supervised fine-tuning, 0 shots (MM1, section 5)"
    ]
    assert beside_paper([score("vqa", "accuracy", 0.5)]) == []
