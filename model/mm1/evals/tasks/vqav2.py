"""VQAv2: questions about COCO images, each answered by ten people; VQA accuracy on test-dev, by the server (MM1, appendix C).

Format: ``v2_OpenEnded_mscoco_<part>_questions.json`` and, except for the test splits, ``v2_mscoco_<part>_annotations.json``,
where part is train2014, val2014, test2015 or test-dev2015; images ``COCO_<part>_<id of 12 digits>.jpg``, those of test-dev in
``test2015/``. Scores are broken down by answer type: yes/no, number, other. Also Hugging Face's Parquet files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import accuracy
from mm1.evals.readers.hugging_face import question_fields, read_shards
from mm1.evals.readers.vqav2 import Fields, Row, answers_of, read_pair
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import ANSWER_STOP, ANSWER_TOKENS, SHORT_ANSWER, TEMPLATES, numbered_answer, short_answer

PARTS = {"testdev": "test-dev2015", "test": "test2015", "val": "val2014", "train": "train2014"}
SHARDS = {"testdev": "testdev-*.parquet", "test": "test-*.parquet", "val": "validation-*.parquet", "train": "train-*.parquet"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if files.has_own(SHARDS[split]):
        return read_shards(files, SHARDS[split], question_fields)
    part = PARTS[split]
    questions = files.find(f"v2_OpenEnded_mscoco_{part}_questions.json")
    annotations = None if "test" in part else files.find(f"v2_mscoco_{part}_annotations.json")
    return read_pair(files, questions, annotations, annotated, coco_image(part.replace("-dev", "")))


def annotated(annotation: Row) -> Fields:
    """Return the fields of an item from its annotation."""
    return {
        "references": (references := answers_of(annotation)),
        "answer": str(annotation.get("multiple_choice_answer") or references[0]),
        "question_type": sys.intern(str(annotation.get("answer_type", ""))),
        "extra": (("question_type", sys.intern(str(annotation.get("question_type", "")))),),
    }


def coco_image(part: str) -> Callable[[Row], tuple[object, ...]]:
    """Return the names under which an image of a part of COCO is looked for."""

    def names(row: Row) -> tuple[object, ...]:
        number = str(row["image_id"]).zfill(12)
        return f"{part}/COCO_{part}_{number}.jpg", f"{number}.jpg"

    return names


vqav2 = Task(
    name="vqav2",
    summary="answer a question about an image of COCO",
    files=(
        "v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json",
        "v2_mscoco_{train2014,val2014}_annotations.json",
        "train2014/, val2014/, test2015/ (COCO images)",
    ),
    form="question",
    read=read,
    splits=("testdev", "test", "val", "train"),
    same_type=False,
    extract=short_answer,
    metrics={"accuracy": accuracy},
    templates=TEMPLATES,
    instruction=SHORT_ANSWER,
    max_new_tokens=ANSWER_TOKENS,
    stop=ANSWER_STOP,
    control_shots=(0, 4),
    submission=numbered_answer,
)
