"""The tier of the complete images: `make test-images` builds them and names them here; without that every test is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.images.box import Box, find_engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are of the images tier."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.images)


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Image name -> reference, as `make images` wrote them into a profile."""
    profile = os.environ.get("MM1_TEST_IMAGES", "")
    if not profile:
        pytest.skip("the images are built by `make test-images` (MM1_TEST_IMAGES names the profile with their digests)")
    found: dict[str, str] = yaml.safe_load(Path(profile).read_text())["images"]
    return found


@pytest.fixture(scope="session", params=["cpu", "trainer"])
def box(request: pytest.FixtureRequest, images: dict[str, str]) -> Box:
    """Each image in turn, run the way a restricted pod runs it."""
    engine = find_engine()
    if engine is None:
        pytest.skip("neither podman nor docker is here to run images")
    if request.param not in images:
        pytest.skip(f"no image {request.param!r} was built")
    return Box(engine, request.param, images[request.param])
