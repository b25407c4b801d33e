"""Fixture of the toy world: a small one, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts of the small world, seed 0; read only."""
    folder = tmp_path_factory.mktemp("world")
    for part in PARTS:
        write_part(part, folder / part, WorldConfig.small())
    return folder
