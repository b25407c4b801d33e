"""WinoGrande: which of two names fills a gap (TextCore, MM1 3.3); the validation split.

Format: ``dev.jsonl``, ``train_xl.jsonl`` and ``test.jsonl`` with ``sentence``, in which ``_`` is the gap, ``option1``,
``option2`` and, except for test, ``answer`` of 1 or 2. Partial evaluation (Trinh and Le 2018), as in lm-evaluation-harness:
the better option is the one after which the rest of the sentence is likelier.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.config import Templates
from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.tasks.multiple_choice import choose, label_of, read_items, text_task

NAMES = {"validation": "dev.jsonl", "train": "train_xl.jsonl", "test": "test.jsonl"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    return read_items(files, f"{split}-*.parquet", (NAMES[split],), _item)


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    number, row = numbered
    before, gap, after = str(row["sentence"]).partition("_")
    if not gap:
        raise ValueError("the sentence has no gap _")
    label = label_of(row.get("answer"))
    options = (str(row["option1"]), str(row["option2"]))
    right = None if label is None else label - 1
    return choose(row.get("qID", number), before, options, right, ending=f" {after.strip()}")


winogrande = text_task(
    "winogrande",
    "choose the name that fills a gap in a sentence",
    ("dev.jsonl", "train_xl.jsonl"),
    read,
    splits=tuple(NAMES),
    reply=lambda item: item.answer + item.ending,
    normalised_metrics={},
    templates=Templates(text="{prompt}{answer}\n\n"),
)
