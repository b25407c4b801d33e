"""MMMU: university questions of 30 subjects, with up to seven images, multiple-choice or open.

Format: one folder per subject with ``<split>-*.parquet``, as Hugging Face distributes it. ``<image 1>`` in a question or an
option places an image. The test split has no answers; ``dev`` holds the five few-shot examples of each subject.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from mm1.evals.files import Files
from mm1.evals.items import IMAGE_MARK, Item
from mm1.evals.metrics.mmmu import open_accuracy, parse_choice
from mm1.evals.readers.hugging_face import shard_items
from mm1.evals.readers.parquet import ParquetImage, ParquetRow
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, lettered
from mm1.evals.tasks.protocol import SHORT_ANSWER

_MARK = re.compile(r"<image (\d)>")


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of all subjects that the folder has."""
    return shard_items(files, f"{split}-*.parquet", _item)


def _item(row: ParquetRow) -> Item:
    fields = row.fields
    options = tuple(map(str, ast.literal_eval(fields["options"]) if isinstance(fields["options"], str) else fields["options"]))
    marked = "\n".join([str(fields["question"]), *options])
    order = [int(number) for number in _MARK.findall(marked)] or [n for n in range(1, 8) if row.images.get(f"image_{n}")]
    images = tuple(_image(row, number) for number in order)
    question = _MARK.sub(IMAGE_MARK, str(fields["question"]))
    answers = _answers(fields["answer"])
    return Item(
        id=str(fields["id"]),
        images=images,
        question=question,
        question_type=_subject(row.file, str(fields["id"])),
        answer=answers[0] if answers else "",
        references=answers,
        options=tuple(_MARK.sub(IMAGE_MARK, option) for option in options),
        extra=(("kind", str(fields.get("question_type", ""))),),
    )


def _image(row: ParquetRow, number: int) -> ParquetImage:
    images = row.images.get(f"image_{number}", ())
    if not images:
        raise ValueError(f"<image {number}> has no image in column image_{number}")
    return images[0]


def _answers(value: object) -> tuple[str, ...]:
    text = str(value)
    if text in ("", "?", "None"):
        return ()
    if text.startswith("[") and text.endswith("]"):
        return tuple(map(str, ast.literal_eval(text)))
    return (text,)


def _subject(file: Path, item: str) -> str:
    match = re.match(r"(?:dev|validation|test)_(.+)_\d+$", item)
    return match[1] if match else file.parent.name


def ask(item: Item) -> str:
    """Write the question with its options, and the form of the answer."""
    return f"{lettered(item)}\n{LETTER_ONLY if item.options else SHORT_ANSWER}"


def answer(prediction: str, item: Item) -> str:
    """Return the letter of a multiple-choice answer; an open answer is kept whole."""
    return parse_choice(prediction, item.options) if item.options else prediction


def accuracy(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Score 1 for the right letter, or for an open answer that holds a right one."""
    return [
        float(prediction in item.references if item.options else open_accuracy(prediction, item.references))
        for prediction, item in zip(predictions, items, strict=True)
    ]


mmmu = Task(
    name="mmmu",
    summary="answer a university question with images",
    files=("<subject>/validation-*.parquet (test-*, dev-*)",),
    form="question",
    read=read,
    splits=("validation", "test", "dev"),
    demonstration_split="dev",
    ask=ask,
    extract=answer,
    metrics={"accuracy": accuracy},
    max_new_tokens=32,
)
