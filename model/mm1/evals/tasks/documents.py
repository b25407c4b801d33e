"""DocVQA and InfoVQA: questions about scanned documents and infographics; ANLS.

Format: the JSON files of the challenge, with ``data`` of ``questionId``, ``question``, ``image`` (``documents/<name>.png``)
or ``image_local_name``, and ``answers`` except in the test split; question types are in the files ``..._withQT.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import per_item
from mm1.evals.metrics.anls import anls
from mm1.evals.tasks.base import Reader, Task
from mm1.evals.tasks.protocol import SHORT_ANSWER


def _reader(names: Callable[[str], Sequence[str]]) -> Reader:
    def read(files: Files, split: str) -> list[Item]:
        path = files.find(*names(split))
        return files.items(path, files.entries(path, "data"), partial(_item, files))

    return read


def _item(files: Files, row: Mapping[str, Any]) -> Item:
    references = tuple(map(str, row.get("answers") or ()))
    types = row.get("question_types") or row.get("answer_type") or ()
    return Item(
        id=str(row["questionId"]),
        images=(files.image(Path(str(row.get("image") or row["image_local_name"])).name),),
        question=str(row["question"]),
        question_type=str(types[0]) if types else "",
        answer=references[0] if references else "",
        references=references,
        group=str(row.get("docId", "")),
    )


docvqa = Task(
    name="docvqa",
    summary="answer a question about a scanned document",
    files=("<split>_v1.0_withQT.json or <split>_v1.0.json", "documents/"),
    form="question",
    read=_reader(lambda split: (f"{split}_v1.0_withQT.json", f"{split}_v1.0.json")),
    splits=("val", "test", "train"),
    same_type=False,
    metrics={"anls": per_item(anls)},
    instruction=SHORT_ANSWER,
    max_new_tokens=64,
)

infovqa = replace(
    docvqa,
    name="infovqa",
    summary="answer a question about an infographic",
    files=("infographicsVQA_<split>_v1.0_withQT.json or without _withQT", "infographicsvqa_images/"),
    read=_reader(
        lambda split: (
            f"infographicsVQA_{split}_v1.0_withQT.json",
            f"infographicsVQA_{split}_v1.0.json",
            f"infographicVQA_{split}_v1.0.json",
        )
    ),
)
