"""Instructions in the chat style, with an image, as in SFT; scored by exact match after normalisation."""

from __future__ import annotations

from dataclasses import replace

from mm1.evals.tasks.questions import vqa

instruct = replace(
    vqa,
    name="instruct",
    summary="follow an instruction about an image, as a chat",
    max_new_tokens=40,
    style="chat",
    shots=(0,),
    control_shots=(),
)
