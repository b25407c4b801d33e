"""AI2D: questions with four options about diagrams of school books.

Format: the folder of the download, ``questions/<image>.json``, ``images/`` and, for questions about labels that are
replaced by letters, ``abc_images/``; the test images are listed in ``ai2d_test_ids.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files, MissingFile
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import leading_letter
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, letter_of, lettered


def read(files: Files, split: str) -> list[Item]:
    """Read the questions about the images of a split."""
    ids = files.text(files.find("ai2d_test_ids.csv"))
    test = {line.strip().removesuffix(".png") for line in ids.splitlines() if line.strip()}
    paths = sorted(files.folder.rglob("questions/*.json"))
    if not paths:
        raise MissingFile(f"task {files.task}: no file questions/<image>.json in {files.folder}{files.packed()}")
    of_split = [path for path in paths if (path.stem.removesuffix(".png") in test) == (split == "test")]
    return [item for path in of_split for item in _questions(files, path)]


def _questions(files: Files, path: Path) -> list[Item]:
    content = files.json(path)

    def make(entry: tuple[str, Mapping[str, Any]]) -> Item:
        question, row = entry
        image = path.parent.parent / ("abc_images" if row.get("abcLabel") else "images") / str(content["imageName"])
        if not image.is_file():
            raise DataError(f"task {files.task}: no file {image}")
        options = tuple(map(str, row["answerTexts"]))
        answer = letter_of(int(row["correctAnswer"]), options)
        return Item(
            id=str(row["questionId"]),
            images=(image,),
            question=question,
            question_type="labels by letter" if row.get("abcLabel") else "diagram",
            answer=answer,
            references=(answer,),
            options=options,
            group=image.name,
        )

    return files.items(path, ((key, (str(key), row)) for key, row in files.entries(path, "questions")), make)


ai2d = Task(
    name="ai2d",
    summary="choose one of four options about a diagram",
    files=("questions/<image>.json", "images/", "abc_images/", "ai2d_test_ids.csv"),
    form="question",
    read=read,
    splits=("test", "train"),
    same_type=False,
    ask=lettered,
    extract=lambda prediction, item: leading_letter(prediction),
    metrics={"accuracy": literal_accuracy},
    instruction=LETTER_ONLY,
    max_new_tokens=16,
)
