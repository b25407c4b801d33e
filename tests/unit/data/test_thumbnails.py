"""Thumbnails: copies of a picture are near, pictures that differ in colour or in a sign are not."""

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from mm1.data.images import THUMBNAIL_BYTES, are_near, contrast, decode_small, open_image, thumbnail


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def look(image, form="PNG", **options):
    return thumbnail(decode_small(open_image(encoded(image, form, **options))))


def near(*looks):
    return bool(are_near(*(np.frombuffer(each, np.uint8)[None] for each in looks))[0])


def photo(seed, size=(300, 200)):
    """Smooth light and a dozen things of different colours: the frame is full, as in photos."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(20, 220, (6, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, side = random.integers(0, size[0]), random.integers(0, size[1]), random.integers(10, 50)
        draw.ellipse([x, y, x + side, y + side], fill=tuple(random.integers(20, 220, 3).tolist()))
    return image


def drawing(paint, size=256):
    """A drawing on white, smoothed as renderers do."""
    image = Image.new("RGB", (4 * size, 4 * size), "white")
    paint(ImageDraw.Draw(image), 4 * size)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def balloon(colour):
    def paint(draw, side):
        draw.ellipse([side * 0.3, side * 0.1, side * 0.7, side * 0.6], fill=colour)
        draw.line([side * 0.5, side * 0.6, side * 0.45, side * 0.95], fill="black", width=side // 64)

    return drawing(paint)


def clock(hour):
    def paint(draw, side):
        draw.ellipse([side * 0.1, side * 0.1, side * 0.9, side * 0.9], outline="blue", width=side // 20)
        angle = 2 * np.pi * hour / 12
        middle, tip = side / 2, (side * (0.5 + 0.25 * np.sin(angle)), side * (0.5 - 0.25 * np.cos(angle)))
        draw.line([middle, middle, middle, side * 0.17], fill="blue", width=side // 32)
        draw.line([middle, middle, *tip], fill="blue", width=side // 32)

    return drawing(paint)


def checkers(colour):
    def paint(draw, side):
        for x in range(8):
            for y in range(x % 2, 8, 2):
                draw.rectangle([x * side / 8, y * side / 8, (x + 1) * side / 8, (y + 1) * side / 8], fill=colour)

    return drawing(paint)


def face(mouth):
    def paint(draw, side):
        draw.ellipse([side * 0.1, side * 0.1, side * 0.9, side * 0.9], fill="gold", outline="black", width=side // 50)
        for x in (0.35, 0.6):
            draw.ellipse([side * x, side * 0.3, side * (x + 0.07), side * 0.4], fill="black")
        start, stop, top = {"smile": (20, 160, 0.4), "sad": (200, 340, 0.6)}[mouth]
        draw.arc([side * 0.3, side * top, side * 0.7, side * (top + 0.3)], start, stop, fill="black", width=side // 40)

    return drawing(paint)


def symbol(*points):
    """A small map symbol."""
    return drawing(lambda draw, side: draw.polygon([(side * x / 100, side * y / 100) for x, y in points], fill="black"))


FAMILIES = {
    "balloons": [balloon(colour) for colour in ("red", "orange", "gold", "green", "blue", "purple", "pink")],
    "clocks": [clock(hour) for hour in range(1, 12)],
    "checkers": [checkers(colour) for colour in ("green", "black", "red")],
    "faces": [face("smile"), face("sad")],
    "symbols": [
        symbol((45, 45), (55, 45), (55, 55), (45, 55)),
        symbol((45, 55), (50, 44), (55, 55)),
        symbol((38, 48), (62, 48), (62, 52), (38, 52)),
        symbol((48, 38), (52, 38), (52, 62), (48, 62)),
    ],
    "flags": [ImageOps.mirror(photo(1)), photo(1), ImageOps.flip(photo(1))],
    "hues": [Image.merge("RGB", [photo(2).split()[channel] for channel in order]) for order in [(0, 1, 2), (1, 2, 0)]],
    "photos": [photo(seed) for seed in range(12)],
}
"""Different pictures that could have the same caption."""
FILES = {
    "JPEG": lambda image: look(image, "JPEG", quality=75),
    "a poor JPEG": lambda image: look(image, "JPEG", quality=35),
    "progressive": lambda image: look(image, "JPEG", quality=80, progressive=True),
    "WEBP": lambda image: look(image, "WEBP", quality=60),
    "smaller": lambda image: look(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)),
    "larger": lambda image: look(image.resize((image.width * 3, image.height * 3), Image.Resampling.LANCZOS), "JPEG"),
    "an odd size": lambda image: look(image.resize((211, 157), Image.Resampling.BILINEAR), "JPEG"),
    "darker": lambda image: look(ImageEnhance.Brightness(image).enhance(0.85)),
    "less contrast": lambda image: look(ImageEnhance.Contrast(image).enhance(0.85)),
}
PHOTOS = {
    "lighter": lambda image: look(ImageEnhance.Brightness(image).enhance(1.12), "JPEG"),
    "cropped": lambda image: look(image.crop((3, 2, image.width - 3, image.height - 2)), "JPEG"),
    "cropped on the left": lambda image: look(image.crop((6, 0, image.width, image.height)), "JPEG"),
}
DRAWINGS = [picture for name in ("balloons", "clocks", "faces") for picture in FAMILIES[name][:3]]


@pytest.mark.parametrize("name", FILES)
def test_another_file_of_a_drawing_is_near(name):
    assert all(near(look(picture), FILES[name](picture)) for picture in DRAWINGS)


@pytest.mark.parametrize("name", FILES | PHOTOS)
def test_another_file_of_a_photo_is_near(name):
    copies = [near(look(picture), (FILES | PHOTOS)[name](picture)) for picture in FAMILIES["photos"]]
    assert sum(copies) >= (11 if name in FILES else 9), copies


@pytest.mark.parametrize("name", FAMILIES)
def test_other_pictures_are_not_near(name):
    looks = [look(picture) for picture in FAMILIES[name]]
    pairs = list(combinations(looks, 2))
    assert not any(near(*pair) or near(*pair[::-1]) for pair in pairs)


def test_pictures_that_show_too_little_are_not_near():
    speck = Image.new("RGB", (256, 256), "white")
    speck.putpixel((40, 50), (0, 0, 0))
    for picture in (speck, Image.new("RGB", (99, 70), (9, 200, 90)), FAMILIES["symbols"][0]):
        assert not near(look(picture), look(picture))


def test_greys_are_compared_with_colours():
    grey = photo(3).convert("L")
    assert near(look(grey), look(grey.convert("RGB"), "JPEG"))
    assert len(look(grey)) == THUMBNAIL_BYTES


@settings(max_examples=60, deadline=None)
@given(looks=arrays(np.uint8, st.tuples(st.just(2), st.integers(0, 6), st.just(THUMBNAIL_BYTES))))
def test_a_pair_is_compared_without_the_others(looks):
    together = are_near(looks[0], looks[1]).tolist()
    assert together == [near(first.tobytes(), second.tobytes()) for first, second in zip(*looks, strict=True)]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (9, 9), "red"), 0),
        (Image.new("L", (9, 9), 7), 0),
        (Image.linear_gradient("L"), 255),
        (Image.merge("RGB", [Image.new("L", (256, 256), 9)] * 2 + [Image.linear_gradient("L")]), 255),
    ],
)
def test_contrast_is_that_of_the_channel_with_most(image, expected):
    assert contrast(image) == expected
