"""TriviaQA without its documents: trivia questions answered from memory (TextCore, MM1 3.3); the validation split.

Format: ``unfiltered-web-dev.json`` or ``web-dev.json`` and the like, with ``Data`` of ``QuestionId``, ``Question`` and
``Answer.Aliases``; in Parquet files (configurations rc.nocontext and unfiltered.nocontext) ``question_id``, ``question``,
``answer.aliases``. Scored as in lm-evaluation-harness: an answer up to the end of the line, "." or "," that equals an alias
without case and punctuation. A question in two domains counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item
from mm1.evals.metrics import exact_accuracy
from mm1.evals.readers.hugging_face import shard_rows
from mm1.evals.tasks.multiple_choice import question_prompt, text_task

NAMES = {"validation": "dev", "train": "train"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    shards, part = f"{split}-*.parquet", NAMES[split]
    if files.has_own(shards):
        return files.items(shards, _distinct(shard_rows(files, shards), "question_id"), _item)
    path = files.find(f"unfiltered-web-{part}.json", f"web-{part}.json", f"wikipedia-{part}.json", f"verified-web-{part}.json")
    return files.items(path, _distinct(files.entries(path, "Data"), "QuestionId"), _item)


def _distinct(rows: Iterator[DataRow], key: str) -> Iterator[DataRow]:
    ids = set()
    for number, row in rows:
        name = str(row.get(key)) if isinstance(row, dict) else ""
        if name not in ids or name in ("", "None"):
            ids.add(name)
            yield number, row


def _item(row: dict[str, Any]) -> Item:
    if "Question" in row:
        number, question, answer = row["QuestionId"], row["Question"], row["Answer"]
        aliases, value = answer["Aliases"], answer.get("Value")
    else:
        number, question, answer = row["question_id"], row["question"], row["answer"]
        aliases, value = answer["aliases"], answer.get("value")
    names = tuple(dict.fromkeys(map(str, aliases or [value])))
    # The harness adds a question mark, also where there is one.
    return Item(id=str(number), question=question_prompt(f"{question}?"), answer=str(value or names[0]), references=names)


triviaqa = text_task(
    "triviaqa",
    "answer a trivia question from memory",
    ("unfiltered-web-{dev,train}.json, or web-{dev,train}.json",),
    read,
    splits=tuple(NAMES),
    metrics={"accuracy": exact_accuracy},
    normalised_metrics={},
    stop=("\n", ".", ","),
    max_new_tokens=24,
)
