"""The GPU tier: `make test-gpu`. Elsewhere each test is skipped at once, before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

DEVICES = ("/dev/nvidiactl", "/dev/dxg")
"""What a driver's kernel side shows, on Linux and on Windows' Linux."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are of the GPU tier."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def checks() -> ModuleType:
    """The checks, on a machine that has a GPU and was asked to use it."""
    if not any(Path(device).exists() for device in DEVICES):
        pytest.skip("this machine has no NVIDIA GPU")
    if not os.environ.get("MM1_TEST_GPU"):
        pytest.skip("the GPU tier runs with `make test-gpu`")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here: torch.cuda.is_available() is False")
    from tests.support import gpu_checks

    return gpu_checks
