"""VQAv2's format: a file of ``questions`` and a file of ``annotations`` with the answers.

In this project's layout they are ``<name>_questions.json`` and ``<name>_annotations.json``, with optional ``choices`` in an
annotation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item

Row = Mapping[str, Any]
Fields = dict[str, Any]
"""Fields of an `Item`."""


def read_vqa(files: Files, name: str) -> list[Item]:
    """Read the items of a pair of files in this project's layout.

    Raises:
        ConfigurationError: a file is missing.
        DataError: a file is damaged.
    """
    return read_pair(files, Path(f"{name}_questions.json"), Path(f"{name}_annotations.json"))


def own_fields(annotation: Row) -> Fields:
    """Return the fields of an annotation in this project's layout."""
    references = answers_of(annotation)
    return {
        "references": references,
        "answer": str(annotation.get("multiple_choice_answer", references[0])),
        "question_type": str(annotation.get("question_type", "")),
        "choices": tuple(map(str, annotation.get("choices", ()))),
    }


def answers_of(annotation: Row) -> tuple[str, ...]:
    """Return the answers of an annotation; equal ones share their memory.

    Raises:
        ValueError: it has none.
    """
    answers = tuple([sys.intern(str(entry["answer"])) for entry in annotation.get("answers") or ()])
    if not answers:
        raise ValueError(f"the annotation of question {annotation['question_id']} has no answers")
    return answers


def image_id(row: Row) -> tuple[object, ...]:
    """Return the name of a question's image."""
    return (row["image_id"],)


def read_pair(
    files: Files,
    questions: Path,
    annotations: Path | None,
    fields: Callable[[Row], Fields] = own_fields,
    image: Callable[[Row], tuple[object, ...]] = image_id,
) -> list[Item]:
    """Read the items of a questions file and its annotations file.

    Args:
        files: the task's files.
        questions: file of the questions.
        annotations: file of the answers; None: a test set without answers.
        fields: fields of an item from an annotation.
        image: possible names of a question's image.

    Raises:
        DataError: a file is damaged, an image is missing, or a question has no annotation.
    """
    files.path(questions)  # if both files are missing, the questions are named
    annotated = {} if annotations is None else _by_question(files, annotations, fields)

    def make(row: Row) -> Item:
        question_id = str(row["question_id"])
        if annotations is not None and question_id not in annotated:
            raise DataError(f"{files.locate(annotations)} has no annotation of question {question_id}")
        return Item(
            id=question_id,
            images=(files.image(*image(row)),),
            question=str(row["question"]),
            **annotated.get(question_id, {}),
        )

    return files.items(questions, files.entries(questions, "questions"), make)


def _by_question(files: Files, annotations: Path, fields: Callable[[Row], Fields]) -> dict[str, Fields]:
    annotated: dict[str, Fields] = {}

    def keep(row: Row) -> None:
        question_id = str(row["question_id"])
        if question_id in annotated:
            raise ValueError(f"question {question_id} has a second annotation")
        annotated[question_id] = fields(row)

    for _ in files.each(annotations, files.entries(annotations, "annotations"), keep):
        pass
    return annotated
