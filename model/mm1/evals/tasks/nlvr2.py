"""NLVR2: a sentence about two photographs is true or false (multi-image; MM1.5 reports it).

Format: ``<split>.json`` of JSON lines with ``identifier`` (``dev-850-0-0``), ``sentence`` and ``label``; images
``dev-850-0-img0.png`` and ``-img1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import IMAGE_MARK, Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.yes_no import mme_answer
from mm1.evals.tasks.base import Task

ANSWERS = {"true": "yes", "false": "no"}


def read(files: Files, split: str) -> list[Item]:
    """Read the sentences of a split."""
    path = files.find(f"{split}.json")

    def make(row: Mapping[str, Any]) -> Item:
        identifier, answer = str(row["identifier"]), ANSWERS[str(row["label"]).lower()]
        pair = identifier.rsplit("-", 1)[0]
        return Item(
            id=identifier,
            images=tuple(files.image(f"{pair}-img{side}") for side in (0, 1)),
            question=str(row["sentence"]),
            answer=answer,
            references=(answer,),
            group=pair,
        )

    return files.items(path, files.rows(path), make)


def ask(item: Item) -> str:
    """Write the sentence as a question about the left and the right image."""
    return f"Left image: {IMAGE_MARK}\nRight image: {IMAGE_MARK}\nIs it true that: {item.question}"


nlvr2 = Task(
    name="nlvr2",
    summary="answer whether a sentence about two photographs is true",
    files=("dev.json, test1.json, train.json", "images of the pairs: dev-850-0-img0.png ..."),
    form="question",
    read=read,
    splits=("dev", "test1", "test2", "train"),
    ask=ask,
    extract=lambda prediction, item: mme_answer(prediction) or "",
    metrics={"accuracy": literal_accuracy},
    instruction="Answer yes or no.",
    max_new_tokens=8,
)
