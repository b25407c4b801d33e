"""What all tests share: one thread of torch for each process, a folder of the session, processes that start warm."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.warm_python import WarmPython

if "MM1_TEST_GPU" not in os.environ:
    # The models of these tests are too small for two threads, which would only wait for each other while other tests use the
    # cores. OpenMP reads it when torch is loaded, here and in what a test starts.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Leave what was imported to itself: DeepSpeed collects garbage dozens of times for an engine, a third of a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def torch_linear() -> Iterator[None]:
    """Undo what an engine of ZeRO 3 leaves in its process: DeepSpeed's own linear function, which saves other activations."""
    yield
    if torch := sys.modules.get("torch"):
        torch.nn.functional.linear = torch._C._nn.linear


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def made_once(session_folder: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Fills a folder for all tests of the session, whichever worker needs it first; from then on it is only read."""

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, done = session_folder / name, session_folder / f"{name}.done"
        with (session_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def warm_python(session_folder: Path) -> Iterator[WarmPython]:
    """Starts ``python -m ...`` without the time that imports take."""
    from tests.support.warm_python import WarmPython

    python = WarmPython(session_folder)
    yield python
    python.close()


@pytest.fixture(scope="session")
def toy_run(made_once: Callable[[str, Callable[[Path], None]], Path], warm_python: WarmPython) -> Path:
    """A folder with the finished run ``toy`` of the whole chain below ``runs``, and its raw files in ``world``."""
    from tests.support.toy_chain import run_chain, write_world

    def make(folder: Path) -> None:
        write_world(folder)
        made = run_chain(warm_python, folder)
        assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]

    return made_once("toy-run", make)
