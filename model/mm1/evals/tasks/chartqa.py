"""ChartQA: questions about charts, written by people and generated; relaxed accuracy (numbers within 5 %).

Format: the folder of the download, ``<split>/<split>_human.json`` and ``<split>_augmented.json`` of ``imgname``, ``query``
and ``label``, with ``<split>/png/``. The usual score is the mean over both kinds, which have equally many test questions.
"""

from __future__ import annotations

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import per_item
from mm1.evals.metrics.relaxed_accuracy import relaxed_accuracy
from mm1.evals.tasks.base import Task

KINDS = ("human", "augmented")


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of a split."""
    items = []
    for kind in KINDS:
        name = files.find(f"{split}_{kind}.json").relative_to(files.folder)
        rows = files.json(name)
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
            with files.damaged(name, number):
                image = files.folder / name.parent / "png" / str(row["imgname"])
                if not image.is_file():
                    raise DataError(f"task {files.task}: no file {image}")
                label = str(row["label"])
                items.append(
                    Item(
                        id=f"{kind}/{number}",
                        images=(image,),
                        question=str(row["query"]),
                        question_type=kind,
                        answer=label,
                        references=(label,),
                    )
                )
    return items


chartqa = Task(
    name="chartqa",
    summary="answer a question about a chart",
    files=("<split>/<split>_human.json, <split>_augmented.json", "<split>/png/"),
    form="question",
    read=read,
    splits=("test", "val", "train"),
    metrics={"relaxed_accuracy": per_item(relaxed_accuracy)},
    instruction="Answer the question using a single word or phrase.",
    max_new_tokens=32,
)
