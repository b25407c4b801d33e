"""HellaSwag: the likeliest continuation of a description of an activity (TextCore, MM1 3.3); the validation split.

Format: ``hellaswag_{val,train,test}.jsonl`` with ``activity_label``, ``ctx_a``, ``ctx_b``, ``endings`` and ``label``. The
text is cleaned as in lm-evaluation-harness: marks such as ``[header]``, which WikiHow's articles left in it, are removed;
``[title]`` becomes a period.
"""

from __future__ import annotations

import re
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.tasks.multiple_choice import choose, label_of, read_items, text_task

NAMES = {"validation": "hellaswag_val.jsonl", "train": "hellaswag_train.jsonl", "test": "hellaswag_test.jsonl"}
_MARK = re.compile(r"\[.*?\]")


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    return read_items(files, f"{split}-*.parquet", (NAMES[split],), _item)


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    number, row = numbered
    context = f"{row['activity_label']}: {row['ctx_a']} {str(row['ctx_b']).capitalize()}"
    endings = [clean(str(ending)) for ending in row["endings"]]
    return choose(number, clean(context), endings, label_of(row.get("label")))


def clean(text: str) -> str:
    """Remove the marks of WikiHow's articles."""
    return _MARK.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


hellaswag = text_task(
    "hellaswag",
    "choose the continuation of a description",
    ("hellaswag_val.jsonl", "hellaswag_train.jsonl"),
    read,
    splits=tuple(NAMES),
)
