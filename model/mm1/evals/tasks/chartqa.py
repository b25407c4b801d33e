"""ChartQA: questions about charts, written by people and generated; relaxed accuracy (numbers within 5 %).

Format: the folder of the download, ``<split>/<split>_human.json`` and ``<split>_augmented.json`` of ``imgname``, ``query``
and ``label``, with ``<split>/png/``. The usual score is the mean over both kinds, which have equally many test questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import per_item
from mm1.evals.metrics.relaxed_accuracy import relaxed_accuracy
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import SHORT_ANSWER

KINDS = ("human", "augmented")


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of a split."""
    return [item for kind in KINDS for item in _of_kind(files, files.find(f"{split}_{kind}.json"), kind)]


def _of_kind(files: Files, path: Path, kind: str) -> list[Item]:
    def make(entry: tuple[object, Mapping[str, Any]]) -> Item:
        number, row = entry
        image = path.parent / "png" / str(row["imgname"])
        if not image.is_file():
            raise DataError(f"task {files.task}: no file {image}")
        label = str(row["label"])
        return Item(
            id=f"{kind}/{number}",
            images=(image,),
            question=str(row["query"]),
            question_type=kind,
            answer=label,
            references=(label,),
        )

    return files.items(path, ((number, (number, row)) for number, row in files.entries(path)), make)


chartqa = Task(
    name="chartqa",
    summary="answer a question about a chart",
    files=("<split>/<split>_human.json, <split>_augmented.json", "<split>/png/"),
    form="question",
    read=read,
    splits=("test", "val", "train"),
    metrics={"relaxed_accuracy": per_item(relaxed_accuracy)},
    instruction=SHORT_ANSWER,
    max_new_tokens=32,
)
