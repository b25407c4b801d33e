"""Benchmark files in the official formats, written once."""

from __future__ import annotations

import pytest

from mm1.evals.benchmark_folder import BenchmarkFolder
from tests.support import official_files, official_textcore


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """A folder with every benchmark as its authors publish it."""
    root = tmp_path_factory.mktemp("official")
    for name, write in (official_files.WRITERS | official_textcore.WRITERS).items():
        write(root / name)
    return root


@pytest.fixture
def folder(official):
    return BenchmarkFolder(official, "test")
