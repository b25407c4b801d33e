"""Questions about images, in VQAv2's format. Any pair of files in this format is such a task (`registry`)."""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.metrics import accuracy
from mm1.evals.readers.vqav2 import read_vqa
from mm1.evals.tasks.base import Task

vqa = Task(
    name="vqa",
    summary="answer a question about an image",
    form="question",
    read=read_vqa,
    balanced=True,
    metrics={"accuracy": accuracy},
    max_new_tokens=10,
    stop=("\n", ",", "Question", "question :"),
    control_shots=(0, 4),
)

vqa_heldout = replace(
    vqa,
    name="vqa_heldout",
    summary="answer questions about combinations of attributes that are not in the training data",
    control_shots=(),
)

vague = replace(
    vqa,
    name="vague",
    summary="answer an underspecified question, whose meaning only the demonstrations show",
    control_shots=(4,),
)

style = replace(
    vqa,
    name="style",
    summary="caption an object in the form that only the demonstrations show",
    control_shots=(4,),
)

novel = replace(
    vqa,
    name="novel",
    summary="name an object by an invented word that only the demonstrations explain; the likelier of two names is the answer",
    shots=(8,),
    control_shots=(8,),
)

codes = replace(
    vqa,
    name="codes",
    summary="name a shape or a colour by one of five or six invented words; more demonstrations explain more of them",
    balanced=False,
    shots=(4, 8, 16),
    control_shots=(16,),
)
