"""Questions about several images, which take two steps, in MuirBench's format; the answer is free.

The demonstrations of ``compare``, ``count_across`` and ``steps`` show answers only. ``steps_cot`` has the items of ``steps``,
and its demonstrations show the steps before the answer (MM1 5): "two and one so first".

Format: ``<task>.parquet`` and ``<task>_demo.parquet`` in the layout of this project, with the columns of `muirbench` and
optionally ``steps``. The images come before the question.
"""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.files import Files
from mm1.evals.items import IMAGE_MARK, Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import letters
from mm1.evals.readers.hugging_face import shard_items
from mm1.evals.readers.parquet import ParquetRow
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import check_letter

SO = " so "
"""Text between the steps and the answer."""


def read(files: Files, name: str) -> list[Item]:
    """Read the questions of a file."""
    return shard_items(files, f"{name}.parquet", _item)


def _item(row: ParquetRow) -> Item:
    fields = row.fields
    options = tuple(map(str, fields["options"]))
    answer = options[letters(len(options)).index(check_letter(str(fields["answer"]), options))]
    return Item(
        id=str(fields["idx"]),
        images=row.images["image_list"],
        question=str(fields["question"]).replace(IMAGE_MARK, "").strip(),
        question_type=str(fields["task"]),
        answer=answer,
        references=(answer,),
        options=options,
        extra=(("steps", str(fields.get("steps") or "")),),
    )


def _with_steps(item: Item) -> str:
    steps = item.field("steps")
    return f"{steps}{SO}{item.answer}" if steps else item.answer


compare = Task(
    name="compare",
    summary="compare two images: which has more objects, whether the size is the same",
    form="question",
    read=read,
    extract=lambda prediction, item: prediction.rpartition(SO)[2].strip(),
    metrics={"accuracy": literal_accuracy},
    max_new_tokens=12,
    stop=("\n",),
    shots=(0, 4),
    control_shots=(4,),
)

count_across = replace(compare, name="count_across", summary="count the objects of two images together")

steps = replace(compare, name="steps", summary="answer a question about two images that takes two steps")

steps_cot = replace(
    steps,
    name="steps_cot",
    summary="answer the questions of `steps`, whose demonstrations show the steps",
    read=lambda files, name: read(files, name.replace("steps_cot", "steps")),
    reply=_with_steps,
    shots=(4,),
)
