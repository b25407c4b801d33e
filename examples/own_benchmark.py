"""An evaluation task of your own for a benchmark with files of its own: which season is it in a photo?

    mm1 eval CHECKPOINT --benchmarks benchmarks --tasks examples/own_benchmark.py --shots 0,4

It reads benchmarks/seasons/{test,train}.json, a list of {"id", "photo", "season", "place"}, and the photos in any folder below.
"""

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import exact_accuracy
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import SHORT_ANSWER, TEMPLATES


def read(files: Files, split: str) -> list[Item]:
    """Read a split. An error names the file and the row, or the photo without a file."""

    def make(row: dict[str, Any]) -> Item:
        photo, season = files.image(row["photo"]), row["season"]
        fields = {"question_type": row["place"], "answer": season, "references": (season,)}
        return Item(id=str(row["id"]), images=(photo,), question="Which season is it?", **fields)

    path = files.find(f"{split}.json")
    return files.items(path, files.entries(path), make)


seasons = Task(
    name="seasons",
    summary="name the season in a photo",
    form="question",
    read=read,
    splits=("test", "train"),
    metrics={"accuracy": exact_accuracy},
    max_new_tokens=5,
    templates=TEMPLATES,
    instruction=SHORT_ANSWER,
)
