"""Colours: the model sees what people see on a white page."""

import io

import numpy as np
import pytest
from PIL import Image

from mm1.data.images import decode, decode_image, decode_small, open_image, thumbnail
from tests.support.damaged_images import encoded, png_chunk, raw_png
from tests.unit.data.test_image_orientation import BLUE, RED, assert_upright, quarters

PAGE = (255, 255, 255)
GREYS = [87, 130, 52, 240]
AS_SEEN = [RED, PAGE, PAGE, BLUE]


def half_transparent():
    """Red and blue quarters; the other two are transparent (over hidden black)."""
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:32, :48], pixels[32:, 48:] = (*RED, 255), (*BLUE, 255)
    return Image.fromarray(pixels)


def grey(kind, scale=1, offset=0):
    """Quarters of GREYS, scaled."""
    values = np.asarray(quarters().convert("L"))
    for number, value in enumerate(GREYS):
        row, column = divmod(number, 2)
        values = values.copy()
        values[row * 32 : (row + 1) * 32, column * 48 : (column + 1) * 48] = value
    return (values.astype(np.float64) * scale + offset).astype(kind)


def palette_with_transparency(alpha):
    image = half_transparent().convert("RGB").quantize(4)
    colours = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    black = int(colours.sum(1).argmin())
    return encoded(image, "PNG", transparency=black if alpha == 0 else bytes(255 if i != black else alpha for i in range(4)))


KEYED = np.where(np.asarray(half_transparent())[..., 3:] > 0, np.asarray(half_transparent())[..., :3], 7)


@pytest.mark.parametrize(
    "data",
    [
        encoded(half_transparent(), "PNG"),
        encoded(half_transparent(), "WEBP", lossless=True),
        encoded(half_transparent(), "WEBP", quality=95),
        encoded(half_transparent(), "WEBP", lossless=True, save_all=True, append_images=[quarters().convert("RGBA")]),
        encoded(half_transparent(), "PNG", save_all=True, append_images=[quarters().convert("RGBA")]),
        encoded(half_transparent(), "TIFF"),
        encoded(half_transparent(), "GIF"),
        palette_with_transparency(0),
        palette_with_transparency(1),
        raw_png(KEYED, 2, 8, png_chunk(b"tRNS", b"\0\7\0\7\0\7")),
        raw_png(KEYED.astype(np.uint16) * 257, 2, 16, png_chunk(b"tRNS", b"\7\7\7\7\7\7")),
        raw_png(np.asarray(half_transparent()).astype(np.uint16) * 257, 6, 16),
    ],
)
def test_transparent_is_white(data):
    assert_upright(decode(data, 32), AS_SEEN)
    assert_upright(decode_image(data), AS_SEEN)
    small = np.asarray(decode_small(open_image(data)).convert("RGB"))
    assert_upright(small, AS_SEEN)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white_at_every_depth(depth):
    samples = np.zeros((8, 8, 1), int)
    samples[:4] = 1  # the transparent grey, which is nearly black at most depths
    data = raw_png(samples, 0, depth, png_chunk(b"tRNS", b"\0\1"))
    pixels = decode(data, 8)
    assert (pixels[:4] == 255).all() and (pixels[4:] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_partly_transparent_is_blended(mode, form):
    image = Image.new(mode, (8, 8), (100, 128) if mode == "LA" else (100, 100, 100, 128))
    pixels = decode(encoded(image, form, **({"lossless": True} if form == "WEBP" else {})), 8)
    assert np.abs(pixels.astype(int) - (100 * 128 + 255 * 127) / 255).max() <= 1


def test_partly_transparent_colours_of_a_palette_are_blended():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 100, 100, 100])
    data = encoded(image, "PNG", transparency=bytes([255, 128]))
    assert np.abs(decode(data, 8).astype(int) - 177).max() <= 1


def test_premultiplied_grey_with_alpha_is_blended():
    image = Image.frombytes("La", (8, 8), bytes([50, 128]) * 64)
    assert np.abs(decode(encoded(image.convert("LA"), "TIFF"), 8).astype(int) - 177).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_fully_transparent_image_is_white(mode):
    assert (decode(encoded(Image.new(mode, (20, 10)), "PNG"), 8) == 255).all()


def test_a_black_drawing_on_transparent_stays_a_drawing():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[20:40, 10:50, 3] = 255
    data = encoded(Image.fromarray(pixels), "PNG")
    seen = decode(data, 64)
    assert (seen[30, 30] == 0).all() and (seen[5, 5] == 255).all()
    assert len({*thumbnail(decode_small(open_image(data)))[:64]}) > 4


@pytest.mark.parametrize(
    "data",
    [
        raw_png(grey(np.uint16, 257)[..., None], 0, 16),
        encoded(Image.fromarray(grey(np.uint16, 257)), "TIFF"),
        encoded(Image.fromarray(grey(">u2", 257)), "TIFF"),
        encoded(Image.fromarray(grey(np.int32)), "TIFF"),
        encoded(Image.fromarray(grey(np.int32, 257)), "TIFF"),
        encoded(Image.fromarray(grey(np.int32, (2**31 - 1) / 255)), "TIFF"),
        encoded(Image.fromarray(grey(np.float32, 1 / 255)), "TIFF"),
        encoded(Image.fromarray(grey(np.float32)), "TIFF"),
        encoded(Image.fromarray(grey(np.float32, 257)), "TIFF"),
        raw_png(np.repeat(grey(np.uint16, 257)[..., None], 3, 2), 2, 16),
        raw_png(np.stack([grey(np.uint16, 257), np.full((64, 96), 65_535)], 2), 4, 16),
    ],
)
def test_more_than_8_bits_are_scaled(data):
    expected = [(value,) * 3 for value in GREYS]
    assert_upright(decode(data, 32), expected, tolerance=2)
    assert_upright(decode_image(data), expected, tolerance=2)
    assert_upright(decode_small(open_image(data)).convert("RGB"), expected, tolerance=2)


@pytest.mark.parametrize("value", [0, 256, 30_000, 65_535])
def test_a_constant_of_16_bits_keeps_its_grey(value):
    data = raw_png(np.full((8, 8, 1), value), 0, 16)
    assert (decode(data, 8) == round(value / 257)).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 200.0, -3.0, 1e30, np.nan, np.inf])
def test_a_constant_of_32_bits_is_decoded(value):
    pixels = decode(encoded(Image.fromarray(np.full((8, 8), value, np.float32)), "TIFF"), 8)
    assert (pixels == pixels[0, 0]).all()


def test_values_without_a_usual_scale_are_stretched():
    ramp = np.linspace(-500, 500, 64, dtype=np.float32).reshape(8, 8)
    pixels = decode(encoded(Image.fromarray(ramp), "TIFF"), 8)
    assert pixels[0, 0, 0] == 0 and pixels[-1, -1, 0] == 255
    assert (np.diff(pixels[..., 0].reshape(-1).astype(int)) >= 0).all()


def test_nan_is_black_and_leaves_the_rest_alone():
    values = grey(np.float32, 1 / 255)
    values[0, :10], values[1, 0], values[1, 1] = np.nan, np.inf, -np.inf
    pixels = np.asarray(decode_image(encoded(Image.fromarray(values), "TIFF")))
    assert (pixels[0, :10] == 0).all() and (pixels[1, 0] == 255).all() and (pixels[1, 1] == 0).all()
    assert_upright(pixels, [(value,) * 3 for value in GREYS], tolerance=2)


def test_white_may_be_zero():
    values = grey(np.uint16, 257)
    inverted = encoded(Image.fromarray(65_535 - values), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(inverted)).tag_v2[262] == 0
    assert_upright(decode(inverted, 32), [(value,) * 3 for value in GREYS], tolerance=2)


def test_one_bit_is_black_and_white():
    image = Image.fromarray(np.arange(64).reshape(8, 8) % 2 == 0)
    for form in ("PNG", "TIFF", "BMP", "GIF"):
        assert set(np.unique(decode(encoded(image, form), 8))) == {0, 255}
