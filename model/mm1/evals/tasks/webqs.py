"""WebQuestions: questions of web users, answered from memory (TextCore, MM1 3.3); the test split.

Format: ``webquestions.examples.{test,train}.json``, lists of ``utterance`` and ``targetValue``, such as ``(list (description
"Jamaican English"))``; in Parquet files ``question`` and ``answers``. As in lm-evaluation-harness an answer is right if the
model's greedy continuation begins with one of the accepted answers.
"""

from __future__ import annotations

import re
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import continuation_accuracy
from mm1.evals.tasks.multiple_choice import question_prompt, read_items, text_task

_DESCRIPTION = re.compile(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()]*))\)')


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    names = (f"webquestions.examples.{split}.json", f"webquestions.{split}.json")
    return read_items(files, f"{split}-*.parquet", names, _item)


def _item(numbered: tuple[int, dict[str, Any]]) -> Item:
    number, row = numbered
    if "targetValue" in row:
        question = row["utterance"]
        answers = [quoted.replace('\\"', '"') or bare for quoted, bare in _DESCRIPTION.findall(row["targetValue"])]
    else:
        question, answers = row["question"], [str(answer) for answer in row["answers"]]
    if not answers:
        raise ValueError("no answers")
    return Item(id=str(number), question=question_prompt(str(question)), answer=answers[0], references=tuple(answers))


webqs = text_task(
    "webqs",
    "answer a question of a web user from memory",
    ("webquestions.examples.{test,train}.json",),
    read,
    splits=("test", "train"),
    metrics={"accuracy": continuation_accuracy},
    normalised_metrics={},
    max_new_tokens=24,
)
