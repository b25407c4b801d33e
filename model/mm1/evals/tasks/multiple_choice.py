"""Common parts of TextCore's tasks (MM1 3.3): prompts and scores as in lm-evaluation-harness, of which MM1 used a fork.

A question is ``Question: ...`` and ``Answer:`` on the next line. The likeliest choice is the answer: ``accuracy`` compares
log-likelihoods, ``accuracy_norm`` log-likelihoods per character. Demonstrations end with an empty line. All tasks run without
demonstrations unless the name sets a number (``piqa@5``). Their files are those of the authors, or the Parquet files of
Hugging Face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mm1.evals.config import Templates
from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.readers.hugging_face import shard_rows
from mm1.evals.tasks.base import Task

Row = dict[str, Any]
MakeItem = Callable[[tuple[int, Row]], Item]
"""Makes an item of the number of a row, from 1, and the row."""
TEMPLATES = Templates(text="{prompt} {answer}\n\n")


def text_task(name: str, summary: str, files: tuple[str, ...], read: Callable[[Files, str], list[Item]], **fields: Any) -> Task:
    """Return a text-only task; its items have choices unless the fields have other metrics."""
    defaults: dict[str, Any] = {
        "metrics": {"accuracy": literal_accuracy},
        "normalised_metrics": {"accuracy_norm": literal_accuracy},
        "max_new_tokens": 40,
        "same_type": False,
        "templates": TEMPLATES,
        "style": "plain",
        "shots": (0,),
        "control_shots": (),
    }
    return Task(name=name, summary=summary, form="text", files=files, read=read, **defaults | fields)


def read_items(files: Files, shards: str, names: Sequence[str], make: MakeItem) -> list[Item]:
    """Read the items of Parquet files, or else of a JSONL file or a JSON list.

    Args:
        files: the task's files.
        shards: name of the Parquet files.
        names: official names of the file.
        make: item of a numbered row.

    Raises:
        ConfigurationError: no file has one of these names.
        DataError: a file or a row is damaged.
    """
    if files.has_own(shards):
        return files.items(shards, _numbered(shard_rows(files, shards)), make)
    path = files.find(*names)
    rows = files.entries(path) if path.suffix == ".json" else files.rows(path)
    return files.items(path, _numbered(rows), make)


def _numbered(rows: Iterator[DataRow]) -> Iterator[DataRow]:
    return ((label, (number, row)) for number, (label, row) in enumerate(rows, 1))


def choose(number: object, question: str, choices: Sequence[str], right: int | None, **fields: Any) -> Item:
    """Return the item of a question with choices.

    Args:
        number: its id.
        question: the prompt.
        choices: the possible answers.
        right: index of the right one; None in a test set without answers.
        fields: further fields of the item.

    Raises:
        ValueError: the index is not that of a choice.
    """
    if right is not None and not 0 <= right < len(choices):
        raise ValueError(f"the right choice is number {right}, expected 0 to {len(choices) - 1}")
    answers = () if right is None else (choices[right],)
    return Item(
        id=str(number), question=question, answer="".join(answers), references=answers, choices=tuple(choices), **fields
    )


def label_of(value: object) -> int | None:
    """Return the number of the right choice; None for the empty label, or -1, of a test set without answers."""
    return None if value in (None, "", -1, "-1") else int(str(value))


def question_prompt(question: str) -> str:
    """Write a question as the prompt of its answer."""
    return f"Question: {question}\nAnswer:"
