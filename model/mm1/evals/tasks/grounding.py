"""Boxes and points in the toy world, as a chat: where an object is, and what is at a box (MM1.5's coordinates in text).

The files are in VQAv2's format; the answers of ``pointing`` are the boxes that a point must be in.
"""

from __future__ import annotations

from dataclasses import replace

from mm1.coordinates import parse_box
from mm1.evals.items import Item
from mm1.evals.metrics import per_item
from mm1.evals.metrics.boxes import accuracy_at, box_iou, point_in_box
from mm1.evals.tasks.instruct import instruct

BOX_TOKENS = 24
"""Maximum length of a box: four numbers of up to three digits, with what other models write around them."""


def centre(item: Item) -> str:
    """Return the point that a demonstration gives: the centre of the box."""
    box = parse_box(item.answer)
    return str(box.centre) if box else item.answer


grounding = replace(
    instruct,
    name="grounding",
    summary="give the box of an object",
    metrics={"mean_iou": per_item(box_iou), "accuracy_iou50": per_item(accuracy_at(0.5))},
    right_from=0.5,
    max_new_tokens=BOX_TOKENS,
    stop=("\n",),
    control_shots=None,
)

pointing = replace(
    grounding,
    name="pointing",
    summary="give a point on an object",
    metrics={"accuracy": per_item(point_in_box)},
    reply=centre,
    right_from=1.0,
)

referring = replace(instruct, name="referring", summary="describe what is in a box", control_shots=None)
