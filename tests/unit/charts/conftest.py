"""The chart with a small profile, rendered by both versions of Helm where they are installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.helm import BINARIES, Helm, small_chart_at


@pytest.fixture(scope="session")
def small_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with one more profile, whose workflow templates are small."""
    return small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")


@pytest.fixture(params=BINARIES)
def both(request: pytest.FixtureRequest, small_chart: Path) -> Helm:
    """Each version of Helm."""
    return helm_at(request.param, small_chart)


@pytest.fixture
def newest(small_chart: Path) -> Helm:
    """Helm 4."""
    return helm_at("helm", small_chart)


def helm_at(binary: str, chart: Path) -> Helm:
    """A version of Helm; skips the test if it is not installed."""
    if shutil.which(binary) is None:
        pytest.skip(f"{binary} is not on the PATH; the test bed's `testbed build` makes it")
    return Helm(binary, chart, dict(os.environ))
