"""Pictures of a page: what the model gets, of the formats that ingest keeps."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mm1.data.images import decode
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.open_mix import open_shards
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.report.album import Album
from mm1.report.config import ReportConfig
from mm1.report.data_page import render_data
from mm1.store.local import LocalStore
from tests.support.damaged_images import encoded, seeds
from tests.support.mixtures import build_mix


def shown(picture):
    head, _, data = picture.uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{image.format.lower()};base64"
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", [name for name in seeds() if name.startswith(("jpeg", "mpo", "png", "webp"))])
def test_a_picture_is_what_the_model_gets(name):
    data = seeds()[name]
    np.testing.assert_array_equal(shown(Album(config=ReportConfig()).picture(data, 32)), decode(data, 32))


def test_a_picture_without_a_model_is_the_square_of_its_longer_side():
    data = seeds()["jpeg turned"]
    picture = Album(config=ReportConfig()).picture(data)
    assert (picture.width, picture.height, picture.side_px, picture.small) == (35, 45, 45, True)
    np.testing.assert_array_equal(shown(picture), decode(data, 45))


def test_a_large_picture_is_scaled_down():
    data = encoded(Image.linear_gradient("L").resize((900, 600)), "PNG")
    picture = Album(config=ReportConfig(image_px=128)).picture(data, 448)
    assert shown(picture).shape == (128, 128, 3) and not picture.small
    np.testing.assert_allclose(shown(picture).mean(), decode(data, 128).mean(), atol=2)


@pytest.mark.parametrize("form", ["PPM", "TGA", "PCX", "ICO", "SGI", "GIF", "BMP", "TIFF", "EPS", "JPEG2000"])
def test_other_formats_are_not_opened(form):
    picture = Album(config=ReportConfig()).picture(encoded(Image.new("RGB", (16, 16), (1, 2, 3)), form))
    assert not picture.uri and picture.note == "unreadable image"


@pytest.fixture(scope="module")
def odd_mix(tmp_path_factory):
    """A mixture of captions on images that a browser shows otherwise than their stored pixels."""
    folder = tmp_path_factory.mktemp("odd")
    store = LocalStore(folder / "store")
    samples = [
        Sample(f"captions-{number:09d}", "captions", [ImagePart(0), TextPart(f"the picture {name}")], [data])
        for number, (name, data) in enumerate(seeds().items())
        if name in ("jpeg turned", "mpo", "png alpha", "png palette", "png grey key", "png 16", "webp lossless")
    ]
    raw, mix = build_mix(store, folder, weights={"captions": 1.0}, samples={"captions": samples}, image_size_px=24)
    return store, raw, mix


def on_page(html):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in re.findall(r"base64,([\w+/=]+)", html)]


def test_a_page_of_a_mixture_shows_the_loaders_batch(odd_mix):
    store, raw, mix = odd_mix
    sizes = {"micro_batch": 2, "global_batch": 2, "rank": 0, "world_size": 1}
    batches = iter(MixtureLoader(store, mix, raw, **sizes))
    pixels = next(batches)["pixel_values"].numpy()
    batches.close()
    pictures = on_page(render_data(store, mix, sequences=2))
    assert len(pixels) >= 7
    np.testing.assert_array_equal(np.stack(pictures), pixels)


def test_a_page_of_data_shows_what_the_model_will_get(odd_mix):
    store, raw, _ = odd_mix
    stored = [sample.images[0] for reader in open_shards(store, raw.sources["captions"].shards) for sample in rows(reader)]
    pictures = on_page(render_data(store, raw, sequences=64))
    assert len(pictures) == 7
    for data, picture in zip(stored, pictures, strict=True):
        np.testing.assert_array_equal(picture, decode(data, len(picture)))


def rows(reader):
    return [reader.read(row) for row in range(len(reader.index))]
