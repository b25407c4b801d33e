"""Images of prompts: the server and the evaluation give the model the pixels that the loader gave it."""

import numpy as np
import pytest
import torch
from PIL import Image

from mm1.data.images import decode
from mm1.errors import DataError
from mm1.generation import encode
from mm1.generation.config import BatchSettings
from mm1.generation.encode import PromptEncoder, read_image, read_pixels
from tests.support.damaged_images import encoded, seeds, tagged
from tests.support.tiny_mm1 import tiny_mm1


@pytest.mark.parametrize("name", seeds())
def test_the_pixels_are_the_loaders(name, tmp_path):
    data, path = seeds()[name], tmp_path / "image"
    path.write_bytes(data)
    for image in (data, path):
        np.testing.assert_array_equal(read_pixels(image, 24, 24), decode(data, 24))


def test_a_tower_may_take_images_that_are_not_square():
    data = encoded(Image.linear_gradient("L").resize((300, 200)), "JPEG", exif=tagged(6))
    assert read_image(data).size == (200, 300)
    pixels = read_pixels(data, 30, 20)
    expected = np.asarray(read_image(data).resize((20, 30), Image.Resampling.BICUBIC))
    assert pixels.shape == (30, 20, 3) and np.abs(pixels.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("read", [read_image, lambda image: read_pixels(image, 8, 8)])
def test_an_unreadable_image_is_named(read, tmp_path):
    with pytest.raises(DataError, match="image of 7 bytes cannot be read"):
        read(b"no jpeg")
    with pytest.raises(DataError, match=r"missing\.jpg cannot be read"):
        read(tmp_path / "missing.jpg")


def test_the_encoder_gives_the_model_these_pixels():
    model, processor = tiny_mm1()
    encoder, data = PromptEncoder(model, processor, BatchSettings()), seeds()["png 16"]
    size = processor.image_processor.size
    pixel_values = processor.pixel_values([decode(data, size["height"])])
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values)
    torch.testing.assert_close(encoder.features([data]), expected)


def test_images_decoded_ahead_share_the_features_of_their_bytes(monkeypatch):
    data, other = seeds()["png 16"], seeds()["jpeg"]
    encoder = PromptEncoder(*tiny_mm1(), BatchSettings())
    expected = encoder.features([data, other])
    encoder = PromptEncoder(*tiny_mm1(), BatchSettings())
    ahead = encoder.decode_ahead(data)
    assert ahead is not data and ahead.read_bytes() == data
    with monkeypatch.context() as patch:
        patch.setattr(encode, "read_pixels", lambda *_: pytest.fail("decoded twice"))
        encoder.features([ahead])
        assert encoder.decode_ahead(data) is data, "its features are known"
        encoder.features([data])
    torch.testing.assert_close(encoder.features([data, other]), expected)
    with pytest.raises(DataError, match="cannot be read"):
        encoder.decode_ahead(data[:60])
    monkeypatch.setattr(encoder.processor.image_processor, "do_center_crop", True)
    assert encoder.decode_ahead(other[:-1]) == other[:-1], "not decoded in full size, which a queue could not hold"
