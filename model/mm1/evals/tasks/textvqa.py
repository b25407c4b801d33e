"""TextVQA: questions about the text in an image; VQA accuracy on the validation split (MM1, appendix C).

``accuracy_evalai`` is the same with the answer processing of its server, EvalAI.

Format: ``TextVQA_0.5.1_{train,val,test}.json`` with ``data`` of ``question_id``, ``question``, ``image_id`` and, except for
test, ten ``answers``; images of train and val in ``train_images/``, of test in ``test_images/``. `textvqa_ocr` also shows the
words that Rosetta recognised, ``TextVQA_Rosetta_OCR_v0.2_<split>.json``; MM1's table does not. Also Hugging Face's Parquet
files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import accuracy, textvqa_accuracy
from mm1.evals.readers.hugging_face import question_fields, read_shards
from mm1.evals.tasks.protocol import most_frequent
from mm1.evals.tasks.vqav2 import vqav2

SHARDS = {"train": "train-*.parquet", "val": "validation-*.parquet", "test": "test-*.parquet"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if files.has_own(SHARDS[split]):
        return read_shards(files, SHARDS[split], question_fields)
    path = files.find(f"TextVQA_0.5.1_{split}.json")

    def make(row: dict[str, Any]) -> Item:
        answers = tuple(map(str, row.get("answers") or ()))
        if not answers and split != "test":
            raise ValueError(f"question {row['question_id']} has no answers")
        return Item(
            id=str(row["question_id"]),
            images=(files.image(row["image_id"]),),
            question=str(row["question"]),
            answer=most_frequent(answers),
            references=answers,
            extra=(("image", str(row["image_id"])),),
        )

    return files.items(path, files.entries(path, "data"), make)


def read_with_words(files: Files, split: str) -> list[Item]:
    """Read a split, with the recognised words after each question."""
    path = files.find(f"TextVQA_Rosetta_OCR_v0.2_{split}.json")

    def words(row: dict[str, Any]) -> tuple[str, str]:
        return str(row["image_id"]), ", ".join(map(str, row["ocr_tokens"]))

    recognised = dict(files.each(path, files.entries(path, "data"), words))
    return [
        replace(item, question=f"{item.question}\nReference OCR tokens: {recognised.get(item.field('image'), '')}")
        for item in read(files, split)
    ]


textvqa = replace(
    vqav2,
    name="textvqa",
    summary="answer a question about the text in an image",
    files=("TextVQA_0.5.1_{train,val,test}.json", "train_images/ (train and val)", "test_images/"),
    read=read,
    metrics={"accuracy": accuracy, "accuracy_evalai": textvqa_accuracy},
    splits=("val", "test", "train"),
    max_new_tokens=16,
)

textvqa_ocr = replace(
    textvqa,
    name="textvqa_ocr",
    summary="answer a question about the text in an image, with the words that another program recognised in it",
    files=(*textvqa.files, "TextVQA_Rosetta_OCR_v0.2_{train,val,test}.json"),
    folder="textvqa",
    read=read_with_words,
)
