"""Filters judge an image by its header first, and by what people see."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mm1.data.config import preset_named
from mm1.data.prepare.filters import Filters
from mm1.data.sample import ImagePart, Sample, TextPart
from tests.support.damaged_images import encoded, png_chunk, raw_png, tagged
from tests.unit.data.test_image_orientation import quarters, stored, tiff_tag

TEXT = "this is a picture of the four quarters that we have seen before it was turned by them"


def judged(data, preset="paper"):
    """The properties of an image that is kept, or the name of the filter that drops it."""
    filters = Filters(preset_named(preset).of("interleaved"))
    kept = filters.apply(Sample("", "interleaved", [ImagePart(0), TextPart(TEXT)], [data]))
    return kept or next(iter([*filters.tally.removed, *filters.tally.dropped]))


UPRIGHT = quarters(192, 128)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "MPO"])
def test_size_and_hash_are_those_of_the_upright_image(form, orientation):
    options = {"save_all": True, "append_images": [UPRIGHT]} if form == "MPO" else {}
    plain = judged(encoded(UPRIGHT, "PNG"))
    turned = judged(encoded(stored(orientation, UPRIGHT), form, exif=tagged(orientation), **options))
    assert turned.sizes == plain.sizes == [(192, 128)]
    assert (turned.hashes[0] ^ plain.hashes[0]).bit_count() <= 8


def test_a_tag_after_the_pixels_counts_as_well():
    late = png_chunk(b"eXIf", tiff_tag("<", 6))
    data = raw_png(np.asarray(stored(6, UPRIGHT)), 2, 8, late=late)
    assert judged(data).sizes == [(192, 128)]


@pytest.mark.parametrize(
    ("size", "reason"),
    [((99, 150), "image_too_small"), ((301, 150), "image_aspect_ratio"), ((10_001, 9_000), "image_too_large")],
)
def test_the_header_is_judged_before_the_pixels(size, reason):
    data = bytearray(encoded(UPRIGHT, "PNG")[:60])  # there are hardly any pixels
    struct.pack_into(">II", data, 16, *size)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    assert judged(bytes(data)) == reason
    jpeg = bytearray(encoded(UPRIGHT, "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, start + 5, *size[::-1])
    assert judged(bytes(jpeg[:-400])) == reason


def test_an_image_of_far_too_many_pixels_is_too_large():
    jpeg = bytearray(encoded(UPRIGHT, "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 65_000, 65_000)
    assert judged(bytes(jpeg)) == "image_too_large"


def test_a_drawing_on_transparent_is_compared_as_seen():
    drawing = Image.new("RGBA", (192, 128), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (20, 30, 90, 100))
    page = Image.new("RGB", drawing.size, "white")
    page.paste(drawing, mask=drawing)
    kept = judged(encoded(drawing, "PNG"))
    assert kept.hashes == judged(encoded(page, "PNG")).hashes != [0]
