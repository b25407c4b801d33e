"""Questions about images, in VQAv2's format. Any pair of files in this format is a task of this kind (`registry`)."""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.items import BenchmarkFolder
from mm1.evals.metrics import accuracy
from mm1.evals.tasks.base import Task

vqa = Task(
    name="vqa",
    summary="answer a question about an image",
    form="question",
    read=BenchmarkFolder.read_vqa,
    metrics={"accuracy": accuracy},
    max_new_tokens=10,
    stop=("\n", ",", "Question", "question :"),
    control_shots=(0, 4),
)

vqa_heldout = replace(
    vqa,
    name="vqa_heldout",
    summary="questions about combinations of attributes that training never showed",
    control_shots=(),
)

vague = replace(
    vqa,
    name="vague",
    summary="an underspecified question: only the demonstrations tell what is meant",
    control_shots=(4,),
)

novel = replace(
    vqa,
    name="novel",
    summary="an invented word that only the demonstrations explain; the likelier of two names counts",
    shots=(8,),
    control_shots=(8,),
)
