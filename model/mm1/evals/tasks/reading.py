"""What a high resolution shows, in the toy world: pages of text (``ocr``, like DocVQA) and fine marks (``mark``).

The files are in VQAv2's format. The letters of a page are 3 x 5 pixels in images of 64 pixels, and the strokes of a mark 2 x 2.
"""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.metrics import accuracy, per_item
from mm1.evals.metrics.anls import anls
from mm1.evals.tasks.instruct import instruct
from mm1.evals.tasks.questions import vqa

ocr = replace(
    vqa,
    name="ocr",
    summary="answer a question about a page of text",
    metrics={"anls": per_item(anls), "accuracy": accuracy},
    max_new_tokens=24,
    stop=("\n",),
    control_shots=(0,),
)

mark = replace(
    instruct,
    name="mark",
    summary="name the fine mark of an image, which images below 64 pixels do not show",
    control_shots=None,
)
