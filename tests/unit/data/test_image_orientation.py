"""Orientation: the model sees the upright image, whatever the format, the size and the way of decoding."""

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mm1.data.images import decode, decode_image, decode_small, open_image
from mm1.data.images.orientation import TURNS, jpeg_orientation
from tests.support.damaged_images import encoded, png_chunk, raw_png, tagged

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)
BACK = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
WIDTH, HEIGHT = 96, 64


def quarters(width=WIDTH, height=HEIGHT):
    pixels = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        row, column = divmod(number, 2)
        pixels[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = colour
    return Image.fromarray(pixels)


def stored(orientation, image=None):
    """Turn an image such that the tag undoes it."""
    image = image or quarters()
    return image.transpose(BACK.get(orientation, TURNS.get(orientation))) if orientation > 1 else image


def assert_upright(pixels, colours=(RED, GREEN, BLUE, WHITE), tolerance=30):
    height, width = np.asarray(pixels).shape[:2]
    seen = [np.asarray(pixels)[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    assert np.abs(np.asarray(seen, int) - np.asarray(colours)).max() < tolerance, seen


def assert_seen_upright(data):
    assert_upright(decode(data, 32))
    assert_upright(decode_image(data))
    assert decode_image(data).size == (WIDTH, HEIGHT)
    opened = open_image(data)
    assert_upright(decode_small(opened).convert("L"), [76, 130, 52, 240])
    assert opened.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_every_orientation_in_every_format(form, orientation):
    options = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if form == "MPO" else {}
    assert_seen_upright(encoded(stored(orientation), form, exif=tagged(orientation), **options))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_of_the_models_size_is_turned_to_the_bit(mode, orientation):
    data = encoded(stored(orientation, quarters(64, 64)).convert(mode), "JPEG", exif=tagged(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode(data, 64), np.asarray(expected))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order):
    assert_seen_upright(encoded(stored(6), "JPEG", exif=b"Exif\0\0" + tiff_tag(order, 6)))


def tiff_tag(order, value, kind=3):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHIHHI", 1, 0x0112, kind, 1, value, 0, 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*",
        b"Exif\0\0XX" + tiff_tag("<", 6)[2:],
        b"Exif\0\0" + tiff_tag("<", 6)[:-9],
        b"Exif\0\0" + tiff_tag("<", 9),
        b"Exif\0\0" + tiff_tag(">", 0),
        b"Exif\0\0" + tiff_tag("<", 6, kind=99),
        b"Exif\0\0" + b"\x12\x01" * 40,
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_broken_metadata_are_ignored(form, exif):
    assert_seen_upright(encoded(quarters(), form, exif=exif))


def test_a_png_may_have_its_tag_after_the_pixels():
    pixels = np.asarray(stored(6))
    data = raw_png(pixels, 2, 8, late=png_chunk(b"eXIf", tiff_tag(">", 6)))
    opened = open_image(data)
    assert opened.size == (WIDTH, HEIGHT), "tiles are planned from the header"
    assert_upright(decode(data, 32))
    decode_small(opened)
    assert opened.size == (WIDTH, HEIGHT)


def test_a_tag_in_xmp_counts_if_exif_has_none():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert_seen_upright(encoded(stored(6), "JPEG", xmp=xmp))
    assert_seen_upright(encoded(stored(6), "WEBP", xmp=xmp))
    assert_seen_upright(encoded(stored(3), "JPEG", xmp=xmp, exif=tagged(3)))


segments = st.lists(
    st.one_of(
        st.tuples(
            st.just(0xE1),
            st.builds(lambda order, value: b"Exif\0\0" + tiff_tag(order, value), *(st.sampled_from("<>"), st.integers(0, 9))),
        ),
        st.tuples(
            st.just(0xE1), st.integers(0, 9).map(lambda v: b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % v)
        ),
        st.tuples(st.sampled_from([0xE0, 0xE2, 0xED, 0xFE]), st.binary(max_size=30)),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(segments)
@example([(0xFE, b""), (0xE1, b"Exif\0\0" + tiff_tag("<", 5))])
def test_the_quick_reading_of_a_jpegs_tag_is_pillows(pieces):
    plain = encoded(Image.new("RGB", (16, 8)), "JPEG")
    added = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in pieces)
    data = plain[:2] + added + plain[2:]
    image = Image.open(io.BytesIO(data))
    expected = image.getexif().get(0x0112, 1)
    assert jpeg_orientation(data) == (expected if expected in TURNS else 1)
