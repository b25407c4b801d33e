"""Text-only tasks from a JSONL file, which measure the language model after multimodal training."""

from __future__ import annotations

from dataclasses import replace

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


def _kind(kind: str, summary: str) -> Task:
    return replace(text, name=f"text_{kind}", summary=f"{summary} (one kind of `text`)")


text_facts = _kind("facts", "complete a fact or answer a question about one")
text_sums = _kind("sums", "add two numbers")
text_copy = _kind("copy", "continue a sequence of words that occurred before")
text_binding = _kind("binding", "recall the invented name of a thing")
text_scene = _kind("scene", "answer a question about a scene in words")
text_last = _kind("last", "find the last word of a passage, as LAMBADA does")
text_pronoun = _kind("pronoun", "choose what a pronoun refers to, as WinoGrande does")
text_bigger = _kind("bigger", "choose the bigger of two animals, physical knowledge as in PIQA")
text_ending = _kind("ending", "choose the plausible end of a sentence, as HellaSwag does")
text_steps = _kind("steps", "draw the conclusion of written steps")
