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
    turned_B, plain_B = (np.frombuffer(kept.thumbnails[0], np.uint8).astype(int) for kept in (turned, plain))
    assert np.abs(turned_B - plain_B).max() <= 6


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
    assert kept.thumbnails == judged(encoded(page, "PNG")).thumbnails


def blank(colour, size=(192, 128), mode="RGB"):
    return Image.new(mode, size, colour)


def dotted(level, size=(192, 128)):
    image = blank((255, 255, 255), size)
    image.putpixel((100, 100), (255, 255, level))
    return image


FADING = Image.linear_gradient("L").resize((192, 128))
NOISE_HW3 = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
FINE = Image.fromarray((np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8))
BLANK = {
    "white": encoded(blank("white"), "PNG"),
    "a colour": encoded(blank((200, 30, 90)), "JPEG"),
    "a colour that blocks do not divide": encoded(blank((12, 200, 90), (131, 101)), "JPEG"),
    "grey": encoded(blank(77, mode="L"), "PNG"),
    "one bit": encoded(blank(1, mode="1"), "PNG"),
    "a palette": encoded(blank(5, mode="P"), "PNG"),
    "16 bits": encoded(blank(4_000, mode="I;16"), "PNG"),
    "lossy": encoded(blank((200, 30, 90)), "WEBP"),
    "progressive": encoded(blank((200, 30, 90)), "JPEG", progressive=True),
    "CMYK": encoded(blank((200, 30, 90, 10), mode="CMYK"), "JPEG"),
    "transparent": encoded(blank((0, 0, 0, 0), mode="RGBA"), "PNG"),
    "transparent noise": encoded(Image.fromarray(np.dstack([NOISE_HW3, np.zeros((128, 192), np.uint8)])), "PNG"),
    "white on transparent": encoded(Image.merge("LA", [blank(255, mode="L"), FADING]), "PNG"),
    "a difference that nobody sees": encoded(dotted(253), "PNG"),
}
DRAWN = {
    "a pixel": encoded(dotted(252), "PNG"),
    "a fine pattern": encoded(FINE, "JPEG", quality=95),
    "a fine pattern, progressive": encoded(FINE, "JPEG", quality=95, progressive=True),
    "one channel": encoded(Image.merge("RGB", [FADING, blank(9, mode="L"), blank(9, mode="L")]), "PNG"),
    "black on transparent": encoded(Image.merge("LA", [blank(0, mode="L"), FADING]), "PNG"),
}


@pytest.mark.parametrize("preset", ["paper", "obelics"])
@pytest.mark.parametrize("source", ["captions", "synthetic", "interleaved", "instructions"])
@pytest.mark.parametrize("name", [*BLANK, *DRAWN])
def test_images_of_one_colour_are_blank(name, source, preset):
    rules = preset_named(preset).of(source)
    rules = rules.model_copy(update={"image": rules.image.model_copy(update={"min_side_px": 1})})
    filters = Filters(rules)
    filters.apply(Sample("", source, [ImagePart(0), TextPart(TEXT)], [(BLANK | DRAWN)[name]]))
    faults = {**filters.tally.removed, **filters.tally.dropped}
    assert ("image_blank" in faults) == (name in BLANK and source != "instructions"), faults


def test_blank_images_of_the_toy_world_stay():
    assert judged(BLANK["white"], "toy").sizes == [(192, 128)]
