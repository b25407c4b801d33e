"""Result files for the servers of benchmarks, for test sets without answers. Torch-free."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm1.evals.harness import Answer, Evaluation, TaskResult
from mm1.evals.tasks.base import Task

KEYS = {"caption": ("image_id", "caption"), "question": ("question_id", "answer"), "text": ("id", "answer")}
"""Form of a task -> names of id and answer: COCO's result format for captions, VQA's for questions."""


def write_submissions(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write a JSON list for each test set without answers: the model's of the first draw, with their own images.

    Returns:
        The files, ``<task>-<split>-<shots>-shots.json``.
    """
    written = []
    for result in evaluation.results:
        if result.control != "none" or all(answer.trial.item.references for answer in result.answers):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result.task.name}-{result.split}-{result.shots}-shots.json"
        path.write_text(json.dumps(submission_of(result), ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def submission_of(result: TaskResult) -> list[Mapping[str, Any]]:
    """Return the entries of a result file, in the order of the items."""
    return [_entry(result.task, answer) for answer in result.answers if answer.trial.draw == 0]


def _entry(task: Task, answer: Answer) -> Mapping[str, Any]:
    item = answer.trial.item
    if task.submission is not None:
        return task.submission(item, answer.prediction)
    id_key, answer_key = KEYS[task.form]
    return {id_key: int(item.id) if re.fullmatch(r"0|[1-9]\d*", item.id) else item.id, answer_key: answer.prediction}
