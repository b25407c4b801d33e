"""Benchmark files of which a tiny model answers a part right, so that its scores are neither 0 nor 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.models.base import EvalModel
from tests.support.tiny_mm1 import write_benchmarks

SHOTS = {"text": 0, "vqa": 4, "captions": 2, "novel": 8}
"""Tasks in the files, with the shots at which the model answers a part right."""


def score(model: EvalModel, benchmarks: Path, task: str) -> dict[str, float]:
    """Scores of a task in this project's harness."""
    return {score.metric: score.value for score in run(model, benchmarks, task).scores}


def run(model: EvalModel, benchmarks: Path, task: str) -> Any:
    config = EvalConfig(tasks=(task,), shots=(SHOTS[task],), controls=False)
    return evaluate(model, benchmarks, "test", config, lambda done, total: None)


def write_answered(model: EvalModel, folder: Path) -> Path:
    """Write the files, then make every second answer the one that the model gives."""
    write_benchmarks(folder, num_items=8)
    split = folder / "test"
    texts = [
        {"id": f"f{n}", "kind": "copy", "prompt": f"big green {word}", "answer": "?"}
        for n, word in enumerate(("red", "is", "dax"))
    ]
    with (split / "text.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in texts)
    answers = {task: _predictions(model, folder, task) for task in ("text", "vqa", "captions")}
    _change(split / "vqa_annotations.json", "annotations", "question_id", answers["vqa"], _answer)
    _change(split / "captions.json", "annotations", "image_id", answers["captions"], _caption)
    rows = [json.loads(line) for line in (split / "text.jsonl").read_text().splitlines()]
    for row in rows[1::2]:
        row["answer"] = answers["text"][row["id"]]
    (split / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _predictions(model: EvalModel, folder: Path, task: str) -> dict[str, str]:
    (result,) = run(model, folder, task).results
    return {answer.trial.item.id: answer.prediction for answer in result.answers}


def _answer(row: dict[str, Any], text: str) -> None:
    row |= {"multiple_choice_answer": text, "answers": [{"answer": text, "answer_id": n} for n in range(10)]}


def _caption(row: dict[str, Any], text: str) -> None:
    row["caption"] = text


def _change(path: Path, rows: str, key: str, answers: dict[str, str], change: Any) -> None:
    content = json.loads(path.read_text())
    for row in content[rows][1::2]:
        change(row, answers[str(row[key])])
    path.write_text(json.dumps(content))
