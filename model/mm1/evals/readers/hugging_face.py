"""Benchmarks of images as Hugging Face distributes them: Parquet files named by split, with images in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item

if TYPE_CHECKING:
    from mm1.evals.readers.parquet import ParquetRow

Fields = dict[str, Any]


def shard_rows(files: Files, *patterns: str) -> Iterator[DataRow]:
    """Read the rows of Parquet files without images, with the file and their number in it.

    Raises:
        ConfigurationError: no file matches.
        DataError: a file is damaged.
    """
    from mm1.evals.readers.parquet import parquet_rows  # pyarrow takes a moment to import

    return ((f"{row.number} of {row.file}", row.fields) for row in parquet_rows(files, *patterns))


def shard_items(files: Files, pattern: str, make: Callable[[ParquetRow], Item]) -> list[Item]:
    """Make an item of each row of the Parquet files that match a pattern.

    Raises:
        ConfigurationError: no file matches.
        DataError: a file or a row is damaged, or two items have one id.
    """
    from mm1.evals.readers.parquet import parquet_rows

    return files.items(pattern, ((f"{row.number} of {row.file}", row) for row in parquet_rows(files, pattern)), make)


def read_shards(files: Files, pattern: str, fields: Callable[[Fields], Fields], image: str = "image") -> list[Item]:
    """Read one item with an image per row.

    Args:
        files: the task's files.
        pattern: name of the Parquet files.
        fields: fields of an item, but for its images, from the other columns of a row.
        image: column of the image.

    Raises:
        ConfigurationError: no file matches.
        DataError: a file or a row is damaged.
    """

    def make(row: ParquetRow) -> Item:
        if not row.images.get(image):
            raise ValueError(f"no image in the column {image!r}")
        return Item(images=row.images[image], **fields(row.fields))

    return shard_items(files, pattern, make)


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
