"""LLaVA-Bench (in the wild): 60 open questions about 24 images, graded by a judge against reference answers.

Format: ``questions.jsonl``, ``context.jsonl`` (descriptions of the images, for a judge that sees none),
``answers_gpt4.jsonl`` (references) and ``images/``. The score is the mean grade in percent of the references' mean grade
(MM1 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import Files
from mm1.evals.grading import Grading
from mm1.evals.items import Item
from mm1.evals.tasks.base import Task


def read(files: Files, split: str) -> list[Item]:
    """Read the questions with their reference answers and the descriptions of their images."""
    reference_of = _by_key(files, "answers_gpt4.jsonl", "question_id", "text")
    context_of = _by_key(files, "context.jsonl", "image", "caption")
    path = files.find("questions.jsonl")

    def make(row: Mapping[str, Any]) -> Item:
        question_id, image = str(row["question_id"]), str(row["image"])
        reference = reference_of(question_id)
        return Item(
            id=question_id,
            images=(files.image(image),),
            question=str(row["text"]),
            question_type=str(row.get("category", "")),
            answer=reference,
            references=(reference,),
            extra=(("context", context_of(image)),),
        )

    return files.items(path, files.rows(path), make)


def _by_key(files: Files, name: str, key: str, value: str) -> Callable[[str], str]:
    path = files.find(name)
    table = dict(files.each(path, files.rows(path), lambda row: (str(row[key]), str(row[value]))))

    def find(of: str) -> str:
        if of not in table:
            raise DataError(f"{path} has no {value} of {key} {of}")
        return table[of]

    return find


def grading_prompt(prediction: str, item: Item) -> str:
    """Write the judge's prompt: the description, the question, both answers, and the form of the grades."""
    return (
        f"An image shows: {item.field('context')}\n\nSomeone asked about it: {item.question}\n\n"
        f"Answer 1: {item.references[0]}\n\nAnswer 2: {prediction}\n\n"
        "Grade both answers from 1 to 10 for how helpful, relevant, accurate and detailed they are. "
        "Reply with the two numbers on one line, the grade of answer 1 first, and nothing else."
    )


llava_w = Task(
    name="llava_w",
    summary="answer open questions about images in the wild; needs a judge",
    files=("questions.jsonl, context.jsonl, answers_gpt4.jsonl", "images/"),
    form="question",
    read=read,
    splits=("test",),
    same_type=False,
    metrics={},
    grading=Grading(ask=grading_prompt, names=("reference_grade", "grade"), scale=10, relative=("grade", "reference_grade")),
    style="chat",
    shots=(0,),
    max_new_tokens=512,
)
