"""Decoding: the quick road for JPEGs gives what Pillow gives, and damage is an error on both roads."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mm1.data.images import decode, decode_image, decode_into, decode_small, open_image, thumbnail
from mm1.errors import DataError
from tests.support.damaged_images import mutations, seeds


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


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("use", ["loader", "server", "ingest"])
def test_a_damaged_image_is_decoded_or_a_data_error(use):
    """A share of what tests/bench/fuzz_images.py does with 100,000 images."""
    uses = {
        "loader": lambda data: decode(data, 32),
        "server": lambda data: decode_image(data, max_pixels=10_000_000),
        "ingest": lambda data: thumbnail(decode_small(open_image(data, max_pixels=10_000_000))),
    }
    outcomes = set()
    for _, data in mutations(800, seed=1):
        try:
            uses[use](data)
            outcomes.add("decoded")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}


@pytest.mark.parametrize(("name", "data"), seeds().items())
def test_all_uses_see_the_same_picture(name, data):
    full = decode_image(data).resize((16, 16), Image.Resampling.BICUBIC)
    for other in (Image.fromarray(decode(data, 16)), decode_small(open_image(data)).resize((16, 16), Image.Resampling.BICUBIC)):
        greys = [np.asarray(image.convert("L").resize((2, 2), Image.Resampling.BOX), int) for image in (full, other)]
        assert np.abs(greys[0] - greys[1]).max() <= 20, name


def test_only_the_given_formats_are_opened():
    assert decode_image(photo(8, 8, form="PNG"), formats=("PNG",)).size == (8, 8)
    for form in ("JPEG", "GIF", "WEBP"):
        with pytest.raises(DataError, match="no known format"):
            decode_image(photo(8, 8, form=form), formats=("PNG",))
