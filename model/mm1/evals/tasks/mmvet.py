"""MM-Vet: open questions that need several capabilities at once, graded by a judge from 0 to 1.

Format: ``mm-vet.json`` (``imagename``, ``question``, ``answer`` with ``<AND>`` and ``<OR>`` between its parts,
``capability``) and ``images/``. An item counts for the breakdown under all its capabilities joined (MM1 5 has the total).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm1.evals.files import Files
from mm1.evals.grading import Grading
from mm1.evals.items import Item
from mm1.evals.tasks.base import Task


def read(files: Files, split: str) -> list[Item]:
    """Read the questions."""
    path = files.find("mm-vet.json")

    def make(entry: tuple[str, Mapping[str, Any]]) -> Item:
        name, row = entry
        answer = str(row["answer"])
        return Item(
            id=name,
            images=(files.image(str(row["imagename"])),),
            question=str(row["question"]),
            question_type=", ".join(map(str, row.get("capability", ()))),
            answer=answer,
            references=(answer,),
        )

    return files.items(path, ((name, (str(name), row)) for name, row in files.entries(path)), make)


def grading_prompt(prediction: str, item: Item) -> str:
    """Write the judge's prompt: the question, the right answer, the answer to grade, and the form of the grade."""
    return (
        "Compare an answer with the right one and grade its correctness from 0.0 (all wrong) to 1.0 (all right). "
        "In the right answer, <AND> joins parts that are all needed, and <OR> separates parts of which any suffices; an answer "
        f"with some of the parts gets their share.\n\nQuestion: {item.question}\nRight answer: {item.references[0]}\n"
        f"Answer: {prediction}\n\nReply with the grade and nothing else."
    )


mmvet = Task(
    name="mmvet",
    summary="answer open questions that need several capabilities; needs a judge",
    files=("mm-vet.json", "images/"),
    form="question",
    read=read,
    splits=("test",),
    same_type=False,
    metrics={},
    grading=Grading(ask=grading_prompt, names=("grade",), scale=1),
    style="chat",
    shots=(0,),
    max_new_tokens=512,
)
