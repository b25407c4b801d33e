"""MMBench: questions with up to four options, asked once per rotation of the options (circular evaluation).

Format: a TSV with ``index``, ``question``, ``hint``, ``A`` to ``D``, ``answer``, ``category``, ``image`` (base64, or the
index of the row that has it). A file with rotations has them at index + 1,000,000 k; of other files the rotations are made
in the reader. A question counts if all its rotations are right. The test split has no answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import letters, mmbench_letter
from mm1.evals.readers.tsv import Base64Image, TsvRow, tsv_rows
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.options import LETTER_ONLY, check_letter, group_accuracy, lettered

ROTATION = 1_000_000
"""Distance of the indices of a question's rotations."""
MAX_INDEX_CHARACTERS = 16


def read(files: Files, split: str) -> list[Item]:
    """Read all rotations of all questions."""
    path = files.find(
        f"MMBench_{split.upper()}_EN*.tsv",
        f"mmbench_{split}_en*.tsv",
        f"mmbench_{split}_2*.tsv",
        f"MMBench_{split.upper()}.tsv",
    )
    images: dict[int, Base64Image] = {}

    def make(row: TsvRow) -> Item:
        index, value = int(row.fields["index"]), row.fields["image"]
        # A short value is the index of the row that has the image.
        refers = len(value) <= MAX_INDEX_CHARACTERS and value.strip().isdigit()
        images[index] = images[int(value)] if refers else Base64Image(path, row.offset, row.number)
        return _item(index, row.fields, images[index])

    items = files.items(path, ((row.number, row) for row in tsv_rows(files, path)), make)
    if all(int(item.id) < ROTATION for item in items):
        items = [rotated for item in items for rotated in _rotations(item)]
    return items


def _item(index: int, row: Mapping[str, str], image: Base64Image) -> Item:
    options = tuple(row[letter] for letter in "ABCD" if row.get(letter, "").strip() not in ("", "nan"))
    answer = row.get("answer", "").strip()
    if answer:
        check_letter(answer, options)
    hint = row.get("hint", "")
    return Item(
        id=str(index),
        images=(image,),
        question=row["question"],
        question_type=row.get("category", ""),
        answer=answer,
        references=(answer,) if answer else (),
        options=options,
        group=str(index % ROTATION),
        extra=(("context", hint),) if hint not in ("", "nan") else (),
    )


def _rotations(item: Item) -> Iterator[Item]:
    """Return the item with its options rotated by every distance."""
    known, count = letters(len(item.options)), len(item.options)
    for shift in range(max(count, 1)):
        options = item.options[shift:] + item.options[:shift]
        answer = known[(known.index(item.answer) - shift) % count] if item.answer else ""
        yield replace(
            item,
            id=str(int(item.id) + ROTATION * shift),
            options=options,
            answer=answer,
            references=(answer,) if answer else (),
        )


mmbench = Task(
    name="mmbench",
    summary="choose one of up to four options, in every rotation of the options",
    files=("MMBench_DEV_EN.tsv (dev), MMBench_TEST_EN.tsv (test, without answers)",),
    form="question",
    read=read,
    splits=("dev", "test"),
    demonstration_split="dev",
    same_type=False,
    ask=lettered,
    extract=lambda prediction, item: mmbench_letter(prediction, item.options),
    metrics={"accuracy": literal_accuracy},
    corpus_metrics={"circular_accuracy": group_accuracy},
    instruction=LETTER_ONLY,
    max_new_tokens=16,
)
