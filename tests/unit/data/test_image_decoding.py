"""Decoding: the quick road for JPEGs gives what Pillow gives, and damage is an error on both roads."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mm1.data.images import decode, decode_into
from mm1.errors import DataError


def photo(width, height, mode="RGB", form="JPEG", **options):
    random = np.random.default_rng(width * height)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    buffer = io.BytesIO()
    coarse.convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def by_pillow(data, side):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_a_jpeg_of_the_right_size_is_pillows_to_the_bit(options):
    data = photo(64, 64, **options)
    np.testing.assert_array_equal(decode(data, 64), by_pillow(data, 64))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (100, 333), (65, 64), (30, 40)])
def test_a_resized_jpeg_is_close_to_pillows(width, height):
    data = photo(width, height)
    difference = np.abs(decode(data, 64).astype(int) - by_pillow(data, 64))
    assert difference.mean() < 1.0 and difference.max() <= 12


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("L", "PNG"), ("RGB", "WEBP"), ("P", "GIF")],
)
def test_every_kind_of_image_becomes_rgb(mode, form):
    data = photo(64, 64, mode, form)
    np.testing.assert_array_equal(decode(data, 64), by_pillow(data, 64))


def test_an_image_is_decoded_into_its_place_and_nowhere_else():
    batch = np.full((3, 64, 64, 3), 7, np.uint8)
    data = photo(64, 64)
    decode_into(data, batch[1])
    np.testing.assert_array_equal(batch[1], by_pillow(data, 64))
    assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize("side", [64, 32])
@pytest.mark.parametrize("kept", [4, 200, -300])
def test_a_truncated_jpeg_is_an_error(side, kept):
    with pytest.raises(DataError, match="unreadable image"):
        decode(photo(64, 64, quality=95)[:kept], side)


def test_a_huge_image_in_a_small_file_is_not_decoded():
    data = photo(64, 64, "L", "PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + data[24:29]
    with pytest.raises(DataError, match="pixels"):
        decode(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:], 64)
