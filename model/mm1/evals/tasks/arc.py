"""ARC: science questions of school tests, easy and challenge (TextCore, MM1 3.3); the test split.

Format: ``ARC-Easy-{Test,Dev,Train}.jsonl`` with ``question.stem``, ``question.choices`` of ``text`` and ``label``, and
``answerKey``; the same fields without nesting in ``ARC-Easy/<split>-*.parquet``.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.tasks.base import Reader
from mm1.evals.tasks.multiple_choice import choose, question_prompt, read_items, text_task

NAMES = {"test": "Test", "validation": "Dev", "train": "Train"}


def _reader(part: str) -> Reader:
    def read(files: Files, split: str) -> list[Item]:
        return read_items(files, f"{part}/{split}-*.parquet", (f"{part}-{NAMES[split]}.jsonl",), _item)

    return read


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    _, row = numbered
    question, choices = row["question"], row.get("choices")
    if choices is None:
        choices = {key: [choice[key] for choice in question["choices"]] for key in ("text", "label")}
        question = question["stem"]
    labels, key = [str(label) for label in choices["label"]], str(row.get("answerKey") or "")
    if key and key not in labels:
        raise ValueError(f"answerKey: expected one of {', '.join(labels)}, got {key!r}")
    texts = [str(text) for text in choices["text"]]
    return choose(row["id"], question_prompt(str(question)), texts, labels.index(key) if key else None)


arc_easy = text_task(
    "arc_easy",
    "answer an easy science question of a school test",
    ("ARC-Easy-{Test,Dev,Train}.jsonl",),
    _reader("ARC-Easy"),
    folder="arc",
    splits=tuple(NAMES),
)

arc_challenge = text_task(
    "arc_challenge",
    "answer a hard science question of a school test",
    ("ARC-Challenge-{Test,Dev,Train}.jsonl",),
    _reader("ARC-Challenge"),
    folder="arc",
    splits=tuple(NAMES),
)
