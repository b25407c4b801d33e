"""Pictures of a page: what the model gets, of the formats that ingest keeps."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mm1.data.images import decode
from mm1.report.album import Album
from mm1.report.config import ReportConfig
from tests.support.damaged_images import encoded, seeds


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
