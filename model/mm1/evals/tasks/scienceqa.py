"""ScienceQA: school questions with options; the questions with an image are the column of MM1 5.

Format: ``problems.json``, ``pid_splits.json`` and ``<split>/<id>/image.png``. The task `scienceqa_cot` has demonstrations
with the lecture and the solution before the answer (MM1 5: few-shot chain of thought).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import leading_letter, mmbench_letter
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, letter_of, lettered
from mm1.evals.tasks.reasoning import FINAL, answer_after_steps, with_steps


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of a split that have an image."""
    problems_path, splits_path = files.find("problems.json"), files.find("pid_splits.json")
    problems, splits = files.json(problems_path), files.json(splits_path)
    with files.damaged(splits_path):
        numbers = [str(number) for number in splits[split]]

    def make(number: str) -> Item | None:
        return _item(files, number, problems[number]) if problems[number].get("image") else None

    return files.items(problems_path, ((f"of problem {number}", number) for number in numbers), make)


def _item(files: Files, number: str, problem: Mapping[str, Any]) -> Item:
    options = tuple(map(str, problem["choices"]))
    answer = letter_of(int(problem["answer"]), options)
    steps = " ".join(part for part in (str(problem.get("lecture", "")), str(problem.get("solution", ""))) if part)
    return Item(
        id=number,
        images=(_image(files, number, problem),),
        question=str(problem["question"]),
        question_type=str(problem.get("subject", "")),
        answer=answer,
        references=(answer,),
        options=options,
        extra=(("context", str(problem.get("hint", ""))), ("steps", steps)),
    )


def _image(files: Files, number: str, problem: Mapping[str, Any]) -> Path:
    name = Path(str(problem["split"])) / number / str(problem["image"])
    for root in (files.folder, files.folder / "images"):
        if (root / name).is_file():
            return root / name
    raise DataError(f"task {files.task}: no file {name} in {files.folder}")


scienceqa = Task(
    name="scienceqa",
    summary="choose an option of a school question with an image",
    files=("problems.json", "pid_splits.json", "test/<id>/image.png"),
    form="question",
    read=read,
    splits=("test", "val", "minitest", "minival", "train"),
    ask=lettered,
    extract=lambda prediction, item: leading_letter(prediction),
    metrics={"accuracy": literal_accuracy},
    instruction=LETTER_ONLY,
    max_new_tokens=16,
)


def _letter_after_steps(prediction: str, item: Item) -> str:
    final = answer_after_steps(prediction)
    return mmbench_letter(final, item.options) or mmbench_letter(final.upper(), [option.upper() for option in item.options])


scienceqa_cot = replace(
    scienceqa,
    name="scienceqa_cot",
    summary="choose an option of a school question with an image, after writing the steps that lead to it",
    folder="scienceqa",
    reply=with_steps,
    extract=_letter_after_steps,
    instruction=f"Write the steps that lead to the answer, and end with: {FINAL} and the option's letter.",
    stop=("\n\n", "Question:"),
    max_new_tokens=400,
)
