"""GQA: compositional questions made from scene graphs; exact match on test-dev (MM1 3.1: part of the ablations' mean).

Format: ``<split>_balanced_questions.json``, an object of question id -> ``imageId``, ``question``, ``answer``, ``types``;
images ``images/<imageId>.jpg``. The splits test and challenge have no answers. Scores are broken down by structural type:
verify, query, choose, logical, compare. Case and punctuation do not matter, as in the harnesses that report GQA for
multimodal models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item
from mm1.evals.metrics import exact_accuracy
from mm1.evals.tasks.vqav2 import vqav2


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    path = files.find(f"{split}_balanced_questions.json")

    def make(entry: tuple[str, dict[str, Any]]) -> Item:
        number, row = entry
        answers = (str(row["answer"]),) if "answer" in row else ()
        return Item(
            id=number,
            images=(files.image(row["imageId"]),),
            question=str(row["question"]),
            question_type=str((row.get("types") or {}).get("structural", "")),
            answer=answers[0] if answers else "",
            references=answers,
        )

    def rows() -> Iterator[DataRow]:
        return ((key, (str(key), row)) for key, row in files.entries(path))

    return files.items(path, rows(), make)


def _result(item: Item, prediction: str) -> dict[str, object]:
    return {"questionId": item.id, "prediction": prediction.lower()}


gqa = replace(
    vqav2,
    name="gqa",
    summary="answer a compositional question about an image",
    files=("{testdev,val,train,test,challenge}_balanced_questions.json", "images/ (GQA images)"),
    read=read,
    splits=("testdev", "val", "train", "test", "challenge"),
    metrics={"accuracy": exact_accuracy},
    submission=_result,
)
