"""Benchmarks of images as Hugging Face distributes them: Parquet files named by split, with images in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item

Fields = dict[str, Any]


def read_rows(files: Files, patterns: tuple[str, ...], fields: Callable[[Fields], Fields], image: str = "image") -> list[Item]:
    """Read one item per row.

    Args:
        files: the task's files.
        patterns: names of the files; the first one that matches counts.
        fields: fields of an item, but for its images, from the other columns of a row.
        image: column of the image.

    Raises:
        ConfigurationError: no file matches.
        DataError: a file or a row is damaged.
    """
    from mm1.evals.readers.parquet import parquet_rows  # pyarrow takes a moment to import

    items: list[Item] = []
    ids: set[str] = set()
    for row in parquet_rows(files, *patterns):
        with files.damaged(row.file, row.number):
            item = Item(images=row.images.get(image, ()), **fields(row.fields))
            if item.id in ids:
                raise ValueError(f"another row has the id {item.id}, too")
            ids.add(item.id)
            items.append(item)
    return items


def question_fields(row: Fields) -> Fields:
    """Return the fields of a question with the answers of its annotators."""
    answers = tuple(str(answer["answer"] if isinstance(answer, dict) else answer) for answer in row.get("answers") or ())
    kind = row.get("answer_type") or row.get("category") or ""
    return {
        "id": str(row["question_id"]),
        "question": str(row["question"]),
        "question_type": str(kind),
        "answer": str(row.get("multiple_choice_answer") or max(answers, key=answers.count, default="")),
        "references": answers,
    }
