"""MathVista: mathematical questions about images, multiple-choice or free-form.

Format: ``testmini-*.parquet`` as Hugging Face distributes it (``decoded_image``), or ``testmini.json`` with ``images/``.
The ``query`` of an entry holds the hint about the form of the answer. The official score extracts answers by a language
model; without a judge, an answer is extracted by rule, which is stricter. `mathvista_cot` writes the steps first (MM1 5);
the benchmark has no solutions, so its demonstrations are the entries of ``demonstrations.jsonl`` (``pid``, ``steps``) that
you write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.mathvista import parse_answer
from mm1.evals.readers.hugging_face import shard_items
from mm1.evals.readers.parquet import ParquetRow
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.reasoning import FINAL, answer_after_steps, with_steps
from mm1.generation.prompt import Image

COPIED = ("answer_type", "precision")
"""Fields of an entry that its extraction needs."""


def read(files: Files, split: str) -> list[Item]:
    """Read the entries of a split."""
    if not files.matches(f"{split}.json"):
        return shard_items(files, f"{split}-*.parquet", _of_row)
    path = files.find(f"{split}.json")

    def make(entry: tuple[str, Mapping[str, Any]]) -> Item:
        pid, fields = entry
        return _item({"pid": pid, **fields}, files.image(str(fields["image"])))

    return files.items(path, ((pid, (str(pid), fields)) for pid, fields in files.entries(path)), make)


def _of_row(row: ParquetRow) -> Item:
    images = row.images.get("decoded_image", ())
    if not images:
        raise ValueError("no decoded_image")
    return _item(row.fields, images[0])


def _item(entry: Mapping[str, Any], image: Image) -> Item:
    answer = str(entry.get("answer") or "")
    metadata = entry.get("metadata") or {}
    return Item(
        id=str(entry["pid"]),
        images=(image,),
        question=str(entry.get("query") or entry["question"]),
        question_type=str(metadata.get("task", "")),
        answer=answer,
        references=(answer,) if answer else (),
        options=tuple(map(str, entry.get("choices") or ())),
        extra=tuple((name, _text(entry.get(name))) for name in COPIED),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def read_with_steps(files: Files, split: str) -> list[Item]:
    """Read the entries; those of ``demonstrations.jsonl`` have steps and are the demonstrations."""
    path = files.find("demonstrations.jsonl")
    steps = dict(files.each(path, files.rows(path), lambda row: (str(row["pid"]), str(row["steps"]))))
    demonstrated = split == "demonstrations"
    items = read(files, "testmini" if demonstrated else split)
    if demonstrated:
        return [replace(item, extra=(*item.extra, ("steps", steps[item.id]))) for item in items if item.id in steps]
    return [item for item in items if item.id not in steps]


def answer(prediction: str, item: Item) -> str:
    """Extract the answer by rule, in the form of the right ones: an option, or a number of the entry's type and precision."""
    precision = float(item.field("precision") or 1)
    kind: Any = item.field("answer_type") or "text"
    return parse_answer(prediction, choices=item.options, answer_type=kind, precision=int(precision)) or ""


mathvista = Task(
    name="mathvista",
    summary="answer a mathematical question about an image",
    files=("testmini-*.parquet, or testmini.json and images/",),
    form="question",
    read=read,
    splits=("testmini", "test"),
    same_type=False,
    extract=answer,
    metrics={"accuracy": literal_accuracy},
    max_new_tokens=64,
)

mathvista_cot = replace(
    mathvista,
    name="mathvista_cot",
    summary="answer a mathematical question about an image, after writing the steps that lead to it",
    files=("testmini-*.parquet, or testmini.json and images/", "demonstrations.jsonl: pid, steps"),
    folder="mathvista",
    read=read_with_steps,
    demonstration_split="demonstrations",
    reply=with_steps,
    extract=lambda prediction, item: answer(answer_after_steps(prediction), item),
    instruction=f"Write the steps that lead to the answer, and end with: {FINAL} and the answer.",
    stop=("\n\n", "Question:"),
    max_new_tokens=400,
)
