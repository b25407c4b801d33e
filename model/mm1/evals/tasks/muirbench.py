"""MuirBench: questions about several images, with options that can be images (multi-image).

Format: ``test-*.parquet`` as Hugging Face distributes it: ``idx``, ``task``, ``question`` and ``options`` with ``<image>``
marks, ``answer``, ``image_list``.
"""

from __future__ import annotations

from mm1.evals.files import Files
from mm1.evals.items import IMAGE_MARK, Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import mmbench_letter
from mm1.evals.readers.hugging_face import shard_items
from mm1.evals.readers.parquet import ParquetRow
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, check_letter, lettered


def read(files: Files, split: str) -> list[Item]:
    """Read the questions."""
    return shard_items(files, f"{split}-*.parquet", _item)


def _item(row: ParquetRow) -> Item:
    fields, images = row.fields, row.images["image_list"]
    question, options = str(fields["question"]), tuple(map(str, fields["options"]))
    marks = "\n".join([question, *options]).count(IMAGE_MARK)
    if marks != len(images):
        raise ValueError(f"{marks} marks {IMAGE_MARK} in question and options, but {len(images)} images")
    answer = check_letter(str(fields["answer"]), options)
    return Item(
        id=str(fields["idx"]),
        images=images,
        question=question,
        question_type=str(fields.get("task", "")),
        answer=answer,
        references=(answer,),
        options=options,
    )


muirbench = Task(
    name="muirbench",
    summary="choose an option of a question about several images",
    files=("test-*.parquet",),
    form="question",
    read=read,
    splits=("test",),
    ask=lettered,
    extract=lambda prediction, item: mmbench_letter(prediction, item.options),
    metrics={"accuracy": literal_accuracy},
    instruction=LETTER_ONLY,
    max_new_tokens=16,
)
