"""Overlap of boxes: hand-made values, and what holds for all boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.coordinates import Box
from mm1.evals.metrics.boxes import accuracy_at, box_iou, intersection_over_union, point_in_box

sides = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted)
boxes = st.builds(lambda x, y: Box(x[0], y[0], x[1], y[1]), sides, sides)


@pytest.mark.parametrize(
    ("prediction", "reference", "iou"),
    [
        ("0 0 100 100", "0 0 100 100", 1.0),
        ("0 0 100 100", "50 0 150 100", 1 / 3),
        ("0 0 100 100", "0 0 200 100", 0.5),
        ("0 0 100 100", "25 25 75 75", 0.25),
        ("0 0 100 100", "100 0 200 100", 0.0),
        ("0 0 100 100", "200 200 300 300", 0.0),
        ("it is at [0, 0, 100, 100]", "0 0 100 100", 1.0),
        ("no idea", "0 0 100 100", 0.0),
        ("5 5 5 5", "5 5 5 5", 1.0),
        ("5 5 5 5", "6 6 6 6", 0.0),
    ],
)
def test_overlaps_by_hand(prediction: str, reference: str, iou: float) -> None:
    assert box_iou(prediction, [reference]) == pytest.approx(iou)


def test_the_nearest_reference_counts() -> None:
    assert box_iou("0 0 10 10", ["500 500 600 600", "0 0 10 20"]) == 0.5


def test_accuracy_needs_more_than_the_threshold() -> None:
    assert accuracy_at(0.5)("0 0 100 100", ["0 0 200 100"]) == 0.0
    assert accuracy_at(0.5)("0 0 100 100", ["0 0 199 100"]) == 1.0


def test_points_count_inside_and_on_the_border() -> None:
    assert [point_in_box(text, ["10 10 20 30"]) for text in ("15 15", "10 30", "(20, 10)", "9 15", "", "15 31")] == [
        1,
        1,
        1,
        0,
        0,
        0,
    ]


def test_references_must_be_boxes() -> None:
    with pytest.raises(ValueError, match="expected references with four numbers"):
        box_iou("0 0 1 1", ["red"])


@given(boxes, boxes)
def test_overlap_is_symmetric_and_between_0_and_1(first: Box, second: Box) -> None:
    iou = intersection_over_union(first, second)
    assert iou == intersection_over_union(second, first)
    assert 0 <= iou <= 1
    assert (iou == 1) == (first == second) or 0 in (first.right - first.left, first.bottom - first.top)


@given(boxes, boxes, st.integers(1, 50), st.integers(1, 50))
def test_overlap_does_not_depend_on_position(first: Box, second: Box, x: int, y: int) -> None:
    moved = [Box(box.left + x, box.top + y, box.right + x, box.bottom + y) for box in (first, second)]
    assert intersection_over_union(*moved) == intersection_over_union(first, second)
