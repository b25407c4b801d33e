"""VQAv2's format: ``<name>_questions.json`` and ``<name>_annotations.json``, with optional ``choices`` in an annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item


def read_vqa(files: Files, name: str) -> list[Item]:
    """Read the items of a pair of files in this project's layout.

    Raises:
        ConfigurationError: a file is missing.
        DataError: a file is damaged.
    """
    return read_pair(files, Path(f"{name}_questions.json"), Path(f"{name}_annotations.json"))


def read_pair(files: Files, questions: Path, annotations: Path | None) -> list[Item]:
    """Read the items of a questions file and its annotations file; None: a test set without answers."""
    asked = files.json(questions)
    by_id: dict[Any, Mapping[str, Any]] = {}
    if annotations is not None:
        content = files.json(annotations)
        with files.damaged(annotations):
            by_id = {row["question_id"]: row for row in content["annotations"]}
    items = []
    with files.damaged(questions):
        rows = list(asked["questions"])
    for number, row in enumerate(rows, 1):
        with files.damaged(questions, number):
            question_id, image, question = row["question_id"], files.image(row["image_id"]), str(row["question"])
        if annotations is not None and question_id not in by_id:
            raise DataError(f"{files.folder / annotations} has no annotation of question {question_id}")
        with files.damaged(annotations or questions, f"of question {question_id}"):
            items.append(_item(question_id, image, question, by_id.get(question_id, {})))
    return items


def _item(question_id: object, image: Path, question: str, annotation: Mapping[str, Any]) -> Item:
    references = tuple(str(entry["answer"]) for entry in annotation.get("answers", ()))
    if annotation and not references:
        raise ValueError("it has no answers")
    choices = tuple(map(str, annotation.get("choices", ())))
    if not all(choice.strip() for choice in choices):
        raise ValueError("a choice is empty")
    return Item(
        id=str(question_id),
        images=(image,),
        question=question,
        question_type=str(annotation.get("question_type", "")),
        answer=str(annotation.get("multiple_choice_answer", references[0] if references else "")),
        references=references,
        choices=choices,
    )
