"""Captioning, in COCO's caption format, with CIDEr-D and F1 of the content words."""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.metrics import cider, content_f1
from mm1.evals.readers.captions import read_captions
from mm1.evals.tasks.base import Task

captions = Task(
    name="captions",
    summary="describe an image in one sentence",
    form="caption",
    read=read_captions,
    metrics={"content_f1": content_f1, "cider": cider},
    max_new_tokens=30,
    control_shots=(0,),
)

captions_heldout = replace(
    captions,
    name="captions_heldout",
    summary="describe an image with a combination of attributes that is not in the training data",
    control_shots=(),
)
