"""PIQA: which of two solutions reaches a physical goal (TextCore, MM1 3.3); the validation split.

Format: ``valid.jsonl`` with ``goal``, ``sol1``, ``sol2``, and ``valid-labels.lst`` with one label of 0 or 1 per line;
``train`` likewise; in Parquet files a row also has its ``label``. ``tests.jsonl`` has no labels.
"""

from __future__ import annotations

from typing import Any

from mm1.config.values import quoted
from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.tasks.multiple_choice import choose, label_of, question_prompt, read_items, text_task

NAMES = {"validation": "valid", "train": "train", "test": "tests"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    shards, name = f"{split}-*.parquet", NAMES[split]
    labels = None if files.has_own(shards) or split == "test" else files.text(files.find(f"{name}-labels.lst")).split()

    def make(numbered: tuple[int, dict[str, Any]]) -> Item:
        number, row = numbered
        if labels is not None and number > len(labels):
            raise ValueError(f"{name}-labels.lst has no line {number}")
        label = row.get("label") if labels is None else labels[number - 1]
        if labels is not None and label not in ("0", "1"):
            raise ValueError(f"{name}-labels.lst, line {number}: expected 0 or 1, got {quoted(str(label))}")
        return choose(number, question_prompt(str(row["goal"])), (str(row["sol1"]), str(row["sol2"])), label_of(label))

    items = read_items(files, shards, (f"{name}.jsonl",), make)
    if labels is not None and len(labels) > len(items):
        raise DataError(f"{files.folder}: {name}-labels.lst has {len(labels)} labels for {len(items)} questions")
    return items


piqa = text_task(
    "piqa",
    "choose the solution that reaches a physical goal",
    ("valid.jsonl and valid-labels.lst", "train.jsonl and train-labels.lst"),
    read,
    splits=tuple(NAMES),
)
