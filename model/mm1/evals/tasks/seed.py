"""SEED-Bench: questions with four options about images (the "image" column of MM1 5).

Format: ``SEED-Bench.json`` with ``questions`` (``choice_a`` to ``choice_d``, ``data_id``, ``data_type``) and
``question_type``; images in ``SEED-Bench-image/`` under their ``data_id``. Questions about videos are left out, since they
need frames of several video sets.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import first_letter
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, check_letter, lettered

log = logging.getLogger(__name__)


def read(files: Files, split: str) -> list[Item]:
    """Read the questions about images."""
    path = files.find("SEED-Bench.json", "SEED-Bench*.json")
    kinds = {str(number): str(kind) for kind, number in files.entries(path, "question_type")}

    def make(row: Mapping[str, Any]) -> Item | None:
        if row["data_type"] != "image":
            return None
        options = tuple(str(row[f"choice_{letter}"]) for letter in "abcd")
        answer = check_letter(str(row["answer"]), options)
        return Item(
            id=str(row["question_id"]),
            images=(files.image(Path(str(row["data_id"])).name),),
            question=str(row["question"]),
            question_type=kinds.get(str(row["question_type_id"]), ""),
            answer=answer,
            references=(answer,),
            options=options,
        )

    rows = list(files.entries(path, "questions"))
    items = files.items(path, rows, make)
    if len(items) < len(rows):
        log.info("%s: %d of %d questions are about videos and are left out", path, len(rows) - len(items), len(rows))
    return items


seed = Task(
    name="seed",
    summary="choose one of four options about an image",
    files=("SEED-Bench.json", "SEED-Bench-image/"),
    form="question",
    read=read,
    splits=("test",),
    ask=lettered,
    extract=lambda prediction, item: first_letter(prediction),
    metrics={"accuracy": literal_accuracy},
    instruction=LETTER_ONLY,
    max_new_tokens=16,
)
