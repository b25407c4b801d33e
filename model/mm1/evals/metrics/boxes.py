"""Boxes and points in answers: intersection over union, accuracy at 0.5 as in RefCOCO, and points inside a box.

An answer is read tolerantly (:func:`mm1.coordinates.parse_box`). Without four numbers it scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mm1.coordinates import Box, parse_box, parse_point

Measure = Callable[[str, Sequence[str]], float]
"""Prediction and reference boxes -> value of an item."""


def intersection_over_union(first: Box, second: Box) -> float:
    """Compute the area of two boxes' intersection relative to that of their union, 0 to 1.

    Two boxes without area, such as a point, have 1 if they are equal.
    """
    if first == second:
        return 1.0
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(width, 0) * max(height, 0)
    union = _area(first) + _area(second) - shared
    return shared / union if union else 0.0


def _area(box: Box) -> int:
    return (box.right - box.left) * (box.bottom - box.top)


def box_iou(prediction: str, references: Sequence[str]) -> float:
    """Compute the intersection over union of an answer's first box with the nearest reference.

    Raises:
        ValueError: a reference is not a box.
    """
    box, boxes = parse_box(prediction), _boxes(references)
    return max(intersection_over_union(box, reference) for reference in boxes) if box else 0.0


def accuracy_at(threshold: float) -> Measure:
    """Return the accuracy of boxes: 1 if the intersection over union exceeds a threshold (0.5 in RefCOCO)."""
    return lambda prediction, references: float(box_iou(prediction, references) > threshold)


def point_in_box(prediction: str, references: Sequence[str]) -> float:
    """Score 1 if an answer's first point is in a reference box or on its border.

    Raises:
        ValueError: a reference is not a box.
    """
    point, boxes = parse_point(prediction), _boxes(references)
    if point is None:
        return 0.0
    return float(any(box.left <= point.x <= box.right and box.top <= point.y <= box.bottom for box in boxes))


def _boxes(references: Sequence[str]) -> list[Box]:
    boxes = [parse_box(reference) for reference in references]
    known = [box for box in boxes if box is not None]
    if not known or len(known) < len(boxes):
        raise ValueError(f"expected references with four numbers, got {list(references)}")
    return known
