"""Addresses of the toy world: options, parts of inputs, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mm1.errors import ConfigurationError
from mm1.world.address import IMAGE_SIZES_PX, PARTS_OF, WorldAddress, parse_world, parts_for
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS
from mm1_components.evaluate import check_world
from mm1_components.wrapper.sources import raw_files


def test_options_are_parsed() -> None:
    assert parse_world("world:3") == WorldAddress(3, 32, ())
    assert parse_world("world:0?image_size=64") == WorldAddress(0, 64, ())
    assert parse_world("world:1?part=reading+grounding&image_size=128") == WorldAddress(1, 128, ("reading", "grounding"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("world:", "expected world:<seed>, for example world:0"),
        ("world:x", "got 'world:x'"),
        ("world:-1?image_size=64", "expected world:<seed>"),
        ("world:0?", "expected name=value after '?'"),
        ("world:0?image_size", "expected name=value"),
        ("world:0?imagesize=64", "unknown option 'imagesize' in 'world:0?imagesize=64'; did you mean 'image_size'?"),
        ("world:0?image_size=ten", "image_size: expected a multiple of 4 from 16 to 512 pixels, got 'ten'"),
        ("world:0?image_size=66", "got '66'"),
        ("world:0?image_size=", "got ''"),
        ("world:0?image_size=64&image_size=32", "image_size is given twice"),
        ("world:0?part=ocrr", "part: no part 'ocrr' in 'world:0?part=ocrr'; did you mean 'ocr'?"),
        ("world:0?part=", "no part ''"),
        ("world:0?part=ocr+ocr", "a part is given twice"),
    ],
)
def test_malformed_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_world(address)
    assert message in str(error.value)


def test_an_input_reads_its_own_parts_only() -> None:
    assert parts_for("world:0", "captions") == ("captions",)
    assert parts_for("world:0?part=ocr", "captions") == ("ocr",)
    with pytest.raises(ConfigurationError, match=r"part: 'grounding' in .* parts for captions: captions, web_captions, ocr"):
        parts_for("world:0?part=grounding", "captions")


def test_tables_agree_with_the_writers() -> None:
    assert {part for parts in PARTS_OF.values() for part in parts} == set(PARTS)
    size = WorldConfig.model_fields["image_size_px"]
    assert {str(limit) for limit in size.metadata} >= {
        "Ge(ge=16)",
        "Le(le=512)",
        f"MultipleOf(multiple_of={IMAGE_SIZES_PX.step})",
    }
    assert (IMAGE_SIZES_PX[0], IMAGE_SIZES_PX[-1], size.default) == (16, 512, parse_world("world:0").image_size_px)


def test_several_parts_are_subfolders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {name: info.default for name, info in WorldConfig.model_fields.items()} | {"num_reading": 3, "num_grounding": 3}
    monkeypatch.setattr("mm1.world.config.WorldConfig", lambda **given: WorldConfig.model_validate(fields | given))
    folder = raw_files("world:0?part=reading+grounding&image_size=96", "instructions", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["grounding", "reading"]
    for path in folder.rglob("*.jpg"):
        assert Image.open(path).size == (96, 96)


def test_tasks_that_need_large_images_are_refused_before_a_run() -> None:
    check_world("ocr mark", "0", "world:0?image_size=64", "test")
    with pytest.raises(ConfigurationError, match="'mark' needs images of at least 64 pixels"):
        check_world("ocr mark", "0", "world:0", "test")
    with pytest.raises(ConfigurationError, match=r"at most 128 .* of ocr\), got 200"):
        check_world("ocr", "0 200", "world:0", "test")
