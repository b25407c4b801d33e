"""Boxes and points as text: exact forms, tolerant reading, refused sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.coordinates import Box, Point, box_of_corners, box_of_pixels, coordinate, parse_box, parse_point

coordinates = st.integers(0, 999)
boxes = st.builds(
    lambda x, y, other_x, other_y: Box(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)), *[coordinates] * 4
)


@given(boxes)
def test_a_box_is_read_as_it_was_written(box: Box) -> None:
    assert parse_box(str(box)) == box
    assert parse_box(f"the ring is at {box} .") == box
    assert parse_point(str(box.centre)) == box.centre == parse_point(str(box))


@given(boxes)
def test_forms_of_other_models_are_read(box: Box) -> None:
    left, top, right, bottom = box
    for text in (
        f"[{left},{top},{right},{bottom}]",
        f"[[{left}, {top}, {right}, {bottom}]]",
        f"<box>({left},{top}),({right},{bottom})</box>",
        f"({right}, {bottom}), ({left}, {top})",
        f"Box: {left}, {top}, {right}, {bottom}.",
    ):
        assert parse_box(text) == box, text


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_a_coordinate_is_at_most_a_bin_away_from_its_position(share: float, length: int) -> None:
    assert 0 <= coordinate(share * length, length) <= 999
    assert abs(coordinate(share * length, length) / 1000 - share) <= 0.0011


@pytest.mark.parametrize(
    ("text", "fractions", "expected"),
    [
        ("[0.1, 0.25, 0.5, 1.0]", True, Box(100, 250, 500, 999)),
        ("0.1 0.25 0.5 0.75", False, Box(0, 0, 0, 0)),
        ("10 20 2000 30", False, Box(10, 20, 999, 30)),
        ("1 2 3", False, None),
        ("", False, None),
        ("red ring", False, None),
        ("v1.2.3.4.5", False, None),
        ("ring2 10 20 30 40", False, Box(10, 20, 30, 40)),
    ],
)
def test_answers_that_are_not_plain_boxes(text: str, fractions: bool, expected: Box | None) -> None:
    assert parse_box(text, fractions) == expected


def test_points_are_read() -> None:
    assert parse_point("(12, 40)") == Point(12, 40) == parse_point("<point> 12 40 </point>")
    assert parse_point("12") is None


def test_boxes_of_pixels_are_relative_to_the_image() -> None:
    assert box_of_pixels([10, 20, 30, 40], width=100, height=200) == Box(100, 100, 400, 300)
    assert box_of_corners((0, 0, 1, 1)) == Box(0, 0, 999, 999)
    for arguments in (([1, 2, 3], 10, 10), ([1, 2, -3, 4], 10, 10), ([1, 2, 3, 4], 0, 10)):
        with pytest.raises(ValueError, match="expected"):
            box_of_pixels(*arguments)
