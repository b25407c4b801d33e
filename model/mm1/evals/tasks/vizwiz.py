"""VizWiz-VQA: questions of blind people about their photos; VQA accuracy on test-dev, by the server (MM1, appendix C).

``accuracy_evalai`` is the same with the answer processing of its server, EvalAI.

Format: ``Annotations/{train,val,test}.json``, lists of ``image``, ``question`` and, except for test, ``answer_type`` and ten
``answers`` with ``answer_confidence``; images in ``train/``, ``val/``, ``test/``. The challenge's test-dev phase takes
answers to all of test.json. Scores are broken down by answer type: yes/no, number, other, unanswerable. Also Hugging Face's
Parquet files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import accuracy, textvqa_accuracy
from mm1.evals.readers.hugging_face import question_fields, read_shards
from mm1.evals.tasks.protocol import SHORT_ANSWER, UNANSWERABLE, most_frequent
from mm1.evals.tasks.vqav2 import vqav2


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if files.has_own(f"{split}-*.parquet"):
        return read_shards(files, f"{split}-*.parquet", question_fields)
    path = files.find(f"Annotations/{split}.json", f"annotations/{split}.json", f"{split}.json")

    def make(row: dict[str, Any]) -> Item:
        answers = tuple(str(entry["answer"]) for entry in row.get("answers") or ())
        if not answers and split != "test":
            raise ValueError(f"the question about image {row['image']} has no answers")
        return Item(
            id=str(row["image"]),
            images=(files.image(f"{split}/{row['image']}"),),
            question=str(row["question"]),
            question_type=str(row.get("answer_type", "")),
            answer=most_frequent(answers),
            references=answers,
        )

    return files.items(path, files.entries(path), make)


def _result(item: Item, prediction: str) -> dict[str, object]:
    return {"image": item.id, "answer": prediction}


vizwiz = replace(
    vqav2,
    name="vizwiz",
    summary="answer a blind person's question about a photo, or that it cannot be answered",
    files=("Annotations/{train,val,test}.json", "train/, val/, test/ (images)"),
    read=read,
    metrics={"accuracy": accuracy, "accuracy_evalai": textvqa_accuracy},
    splits=("test", "val", "train"),
    instruction=f"{UNANSWERABLE}\n{SHORT_ANSWER}",
    submission=_result,
)
