"""Text-only tasks from a JSONL file, which measure the language model after multimodal training."""

from __future__ import annotations

from mm1.evals.metrics import first_words_accuracy
from mm1.evals.readers.lines import read_text
from mm1.evals.tasks.base import Task

text = Task(
    name="text",
    summary="continue a text without images; for an item with choices, the likeliest choice is the answer",
    form="text",
    read=read_text,
    metrics={"accuracy": first_words_accuracy},
    max_new_tokens=6,
    style="plain",
    shots=(0,),
    control_shots=(),
)
