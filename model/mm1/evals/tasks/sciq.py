"""SciQ: science questions with a supporting text (TextCore, MM1 3.3); the test split.

Format: ``{test,valid,train}.json``, lists of ``question``, ``support``, ``correct_answer`` and ``distractor1`` to
``distractor3``.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.tasks.multiple_choice import choose, question_prompt, read_items, text_task

NAMES = {"test": "test.json", "validation": "valid.json", "train": "train.json"}
_CHOICES = ("distractor1", "distractor2", "distractor3", "correct_answer")


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    return read_items(files, f"{split}-*.parquet", (NAMES[split],), _item)


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    number, row = numbered
    prompt = f"{str(row['support']).lstrip()}\n{question_prompt(str(row['question']))}"
    return choose(number, prompt, [str(row[name]) for name in _CHOICES], _CHOICES.index("correct_answer"))


sciq = text_task(
    "sciq",
    "answer a science question with a supporting text",
    ("{test,valid,train}.json",),
    read,
    splits=tuple(NAMES),
)
