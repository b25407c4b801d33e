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
    ("text", "expected"),
    [
        ("from (12, 40) to (180, 310)", Box(12, 40, 180, 310)),
        ("(12,40)-(180,310)", Box(12, 40, 180, 310)),
        ("x1=12, y1=40, x2=180, y2=310", Box(12, 40, 180, 310)),
        ("left: 12 top: 40 right: 180 bottom: 310", Box(12, 40, 180, 310)),
        ('{"xmin": 12, "ymin": 40, "xmax": 180, "ymax": 310}', Box(12, 40, 180, 310)),
        ('{"bbox_2d": [12.7, 40.2, 180.0, 310.9]}', Box(12, 40, 180, 310)),
        ("12|40|180|310", Box(12, 40, 180, 310)),
        ("2 boxes: [12, 40, 180, 310], [1, 2, 3, 4]", Box(12, 40, 180, 310)),
        ("[0.1, 0.25, 0.5, 1.0]", Box(100, 250, 500, 999)),
        ("[0, 0.0, 1, 1]", Box(0, 0, 999, 999)),
        ("0 0 1 1", Box(0, 0, 1, 1)),
        ("0.5 10 20 30", Box(0, 10, 20, 30)),
        ("12%, 40.5%, 18 %, 100%", Box(120, 405, 180, 999)),
        ("12% 40% 18% 31%", Box(120, 310, 180, 400)),
        ("10 20 2000 30", Box(10, 20, 999, 30)),
        ("[-5, 10, 20, 30]", Box(0, 10, 20, 30)),
        ("\u22125 10 20 30", Box(0, 10, 20, 30)),
        ("12 40 180 310 5", Box(12, 40, 180, 310)),
        ("7 7 7 7", Box(7, 7, 7, 7)),
        ("9" * 5000 + " 1 2 3", Box(2, 1, 999, 3)),
        ("1 2 3", None),
        ("", None),
        ("red ring", None),
        ("v1.2.3.4.5", None),
        ("2024-10-12-14", None),
        ("12 40 180 31O", None),
        ("NaN 1 2 3", None),
        ("1e3 2 3 4", None),
        ("ring2 10 20 30 40", Box(10, 20, 30, 40)),
    ],
)
def test_answers_that_are_not_plain_boxes(text: str, expected: Box | None) -> None:
    assert parse_box(text) == expected


@given(st.text(alphabet="0123456789 .,-+%()[]<>xyto=:|\n", max_size=60))
def test_every_answer_is_a_box_in_the_image_or_none(text: str) -> None:
    box, point = parse_box(text), parse_point(text)
    assert box is None or (0 <= box.left <= box.right <= 999 and 0 <= box.top <= box.bottom <= 999 and point == box.centre)
    assert point is None or (0 <= point.x <= 999 and 0 <= point.y <= 999)


def test_points_are_read() -> None:
    assert parse_point("(12, 40)") == Point(12, 40) == parse_point("<point> 12 40 </point>")
    assert parse_point("x=12 y=40") == Point(12, 40)
    assert parse_point("(0.5, 0.25)") == Point(500, 250) == parse_point("50%, 25%")
    assert parse_point("12") is None


def test_boxes_of_pixels_are_relative_to_the_image() -> None:
    assert box_of_pixels([10, 20, 30, 40], width=100, height=200) == Box(100, 100, 400, 300)
    assert box_of_corners((0, 0, 1, 1)) == Box(0, 0, 999, 999)
    for arguments in (([1, 2, 3], 10, 10), ([1, 2, -3, 4], 10, 10), ([1, float("nan"), 3, 4], 10, 10), ([1, 2, 3, 4], 0, 10)):
        with pytest.raises(ValueError, match="expected"):
            box_of_pixels(*arguments)
