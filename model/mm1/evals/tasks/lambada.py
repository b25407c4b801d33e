"""LAMBADA: the last word of a passage (TextCore, MM1 3.3); the test split.

Format: OpenAI's ``lambada_test.jsonl`` (``lambada_test_en.jsonl`` on Hugging Face) with ``text``, which harnesses use, or
else the authors' ``lambada_test_plain_text.txt``, one passage per line with separated punctuation. Their scores are not
comparable. The model continues the passage greedily; lm-evaluation-harness asks whether the word is the greedy continuation,
which is the same test.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import continuation_accuracy
from mm1.evals.tasks.multiple_choice import read_items, text_task

NAMES = {"test": "test", "validation": "development"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    plain = f"lambada_{NAMES[split]}_plain_text.txt"
    names = (f"lambada_{split}.jsonl", f"lambada_{split}_en.jsonl")
    if not files.matches(*names) and files.matches(plain):
        path = files.find(plain)
        lines = enumerate(filter(None, map(str.strip, files.text(path).splitlines())), 1)
        return files.items(path, ((number, (number, {"text": line})) for number, line in lines), _item)
    return read_items(files, f"{split}-*.parquet", (*names, plain), _item)


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    number, row = numbered
    passage, _, word = str(row["text"]).rstrip().rpartition(" ")
    if not passage:
        raise ValueError("a passage of one word")
    return Item(id=str(number), question=passage, answer=word, references=(word,))


lambada = text_task(
    "lambada",
    "find the last word of a passage",
    ("lambada_test.jsonl (OpenAI's), or lambada_test_plain_text.txt",),
    read,
    splits=tuple(NAMES),
    demonstration_split="validation",
    metrics={"accuracy": continuation_accuracy},
    normalised_metrics={},
    max_new_tokens=10,
)
