"""Tiles of images: MM1's static layout and MM1.5's dynamic grid, for images of every shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm1.modeling.image_layout import ImageLayout, Tiles

SIDES = st.one_of(st.integers(1, 200), st.integers(1, 6000))
GRIDS = st.tuples(st.integers(1, 16), st.integers(0, 15)).map(lambda pair: (pair[0], pair[0] + pair[1]))
MARKS = st.sampled_from(["none", "index", "separators"])
LAYOUTS = st.one_of(
    st.just(ImageLayout()),
    st.builds(lambda marks, images: ImageLayout("static", marks=marks, max_images=images), MARKS, st.integers(1, 4)),
    st.builds(lambda grid, marks, images: ImageLayout("dynamic", *grid, marks, images), GRIDS, MARKS, st.integers(1, 4)),
)


@given(LAYOUTS)
def test_the_text_form_gives_the_layout_back(layout):
    assert ImageLayout.parse(str(layout)) == layout


@given(SIDES, SIDES, GRIDS, st.sampled_from([8, 32, 672]))
def test_the_grid_is_the_one_that_the_paper_prints(width, height, grid, side):
    """Least padding among the grids that need not shrink the image, otherwise least loss of resolution (MM1.5 3.5)."""
    tiles = ImageLayout("dynamic", *grid).tiles(width, height, side)
    candidates = [(r, c) for r in range(1, grid[1] + 1) for c in range(1, grid[1] + 1) if grid[0] <= r * c <= grid[1]]
    assert (tiles.rows, tiles.columns) in candidates
    scales = {(r, c): min(c * side / width, r * side / height) for r, c in candidates}
    padding = {grid: grid[0] * grid[1] * side**2 - scale**2 * width * height for grid, scale in scales.items()}
    covering = [grid for grid in candidates if scales[grid] >= 1]
    chosen, rounding = (tiles.rows, tiles.columns), tiles.side * max(tiles.rows, tiles.columns)
    if covering:
        assert padding[chosen] <= min(padding[grid] for grid in covering) + rounding
    else:
        lost = {grid: width * height * (1 - scale**2) for grid, scale in scales.items()}
        assert lost[chosen] <= min(lost.values()) + rounding
    assert abs(tiles.padding - padding[chosen]) <= rounding
    assert tiles.width == tiles.columns * side or tiles.height == tiles.rows * side, "resized by the side that limits it"
    assert 1 <= tiles.width <= tiles.columns * side and 1 <= tiles.height <= tiles.rows * side
    assert tiles.overview == ("" if chosen == (1, 1) else "last")


@given(SIDES, SIDES, LAYOUTS, st.integers(1, 64))
def test_the_boxes_cover_the_image_once_in_reading_order(width, height, layout, side):
    tiles = layout.tiles(width, height, side)
    boxes = tiles.boxes()
    assert boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
    covered = np.zeros((tiles.rows * side, tiles.columns * side), np.int64)
    for left, top, right, bottom in boxes:
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all() and tiles.width <= covered.shape[1] and tiles.height <= covered.shape[0]
    assert tiles.count == len(boxes) + bool(tiles.overview) == tiles.pieces().count(None) <= layout.max_count
    assert {piece for piece in tiles.pieces(1) if piece is not None} <= set(layout.all_marks(2))


@pytest.mark.parametrize("layout", ["static", "dynamic,grid=2-6", "dynamic,grid=1-1"])
@pytest.mark.parametrize("size", [(90, 40), (40, 90), (64, 64), (7, 5)])
def test_the_tiles_put_together_are_the_resized_image(layout, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    tiles = ImageLayout.parse(layout).tiles(*size, 32)
    parts = tiles.cut(image)
    assert [part.size for part in parts] == [(32, 32)] * tiles.count
    overview = [parts.pop(0 if tiles.overview == "first" else -1)] if tiles.overview else []
    page = Image.new("RGB", (tiles.columns * 32, tiles.rows * 32))
    for part, box in zip(parts, tiles.boxes(), strict=True):
        page.paste(part, box[:2])
    resized = image.resize((tiles.width, tiles.height), Image.Resampling.BICUBIC)
    assert page.crop((0, 0, tiles.width, tiles.height)).tobytes() == resized.tobytes()
    assert (np.asarray(page)[tiles.height :] == 255).all() and (np.asarray(page)[:, tiles.width :] == 255).all()
    assert all(part.tobytes() == image.resize((32, 32), Image.Resampling.BICUBIC).tobytes() for part in overview)


def test_the_numbers_of_the_papers():
    static = ImageLayout("static").tiles(900, 700, 672)
    assert (static.width, static.height, static.count, static.count * 144) == (1344, 1344, 5, 720)  # MM1 5
    largest = ImageLayout.parse("dynamic").tiles(4000, 4000, 672)
    assert (largest.width, largest.height, largest.count, largest.count * 144) == (2016, 2016, 10, 1440)  # MM1.5 3.5
    assert ImageLayout.parse("dynamic").with_max_tiles(16).tiles(4000, 4000, 672).count == 17
    assert ImageLayout.parse("dynamic").tiles(2000, 300, 672).rows == 1, "a line of text is a row of tiles"


def test_the_overview_is_first_in_mm1_and_last_in_mm1_5():
    assert ImageLayout("static", marks="index").tiles(9, 9, 8).pieces()[:4] == ["(0,0,0)", None, "(0,1,1)", None]
    assert ImageLayout.parse("dynamic").tiles(9, 9, 8).pieces(1)[-2:] == ["(1,0,0)", None]
    separators = ImageLayout.parse("dynamic,grid=4-4,marks=separators").tiles(9, 9, 8)
    assert separators.pieces() == [None, ",", None, "\n", None, ",", None, ":", None]


def test_samples_of_many_images_are_not_divided():
    layout = ImageLayout.parse("dynamic")
    assert layout.tiles(900, 900, 32, num_images=2).count > 1
    assert layout.tiles(900, 900, 32, num_images=3) == Tiles(32) and Tiles(32).pieces(2) == [None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiled", "expected single or static or dynamic"),
        ("static,grid=4-9", "static has no option 'grid'"),
        ("dynamic,grid=9-4", "grid: expected two numbers"),
        ("dynamic,grid=a", "grid: expected two numbers such as 4-9, got 'a'"),
        ("dynamic,marks=dots", "marks: expected none or index or separators"),
        ("dynamic,max_images=0", "max_images: expected at least 1"),
        ("single,marks=none", "single has no option"),
    ],
)
def test_an_unknown_layout_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        ImageLayout.parse(text)
