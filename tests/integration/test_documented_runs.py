"""The commands and Python blocks of the pages, run where the page does not say that they need more than a small run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.documentation import PAGES, ROOT, Block, Command, blocks
from tests.support.toy_chain import RUN
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
ALIASES = ("longer", "before", "after", "lr-2e-3", "lr-5e-3", "lr-1e-2")
"""Runs that the pages make by training: in this test they have the records of the toy run."""
MODULES = {"mm1": ("-m", "mm1_workflows.cli"), "hera": ("-m", "tests.support.hera_command"), "python": ()}
TIMEOUT_S = 120.0
RUNNABLE = [page for page in PAGES if any(block.language in ("bash", "python") and not block.needs for block in blocks(page))]


@pytest.fixture(scope="module")
def checkout(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's checkout after `make run`."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(toy_run / "runs", folder / "runs")
    records = folder / "runs" / "store" / "runs"
    for alias in ALIASES:
        shutil.copytree(records / RUN, records / alias)
    (folder / "workflows").mkdir()
    for path in (ROOT / "workflows").glob("*.py"):
        shutil.copy(path, folder / "workflows")
    return folder


@pytest.fixture
def reader(checkout: Path, tmp_path: Path) -> Path:
    """A checkout of its own for each page, which writes files."""
    return Path(shutil.copytree(checkout, tmp_path / "reader"))


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, reader, warm_python):
    for block in blocks(page):
        if not block.needs:
            run_block(block, reader, warm_python)


def run_block(block: Block, folder: Path, python: WarmPython) -> None:
    if block.language == "python":
        (folder / "block.py").write_text(block.text)
        ended = python.run("tests.support.python_block", "block.py", cwd=folder, timeout=TIMEOUT_S)
        check(f"{block.page.relative_to(ROOT)}:{block.line}", ended)
    if block.language == "bash":
        for command in block.commands():
            if command.program == "cp":
                subprocess.run(["cp", *command.words], cwd=folder, check=True)
            elif command.program in MODULES:
                module, *arguments = arguments_of(command, folder)
                check(str(command), python.run(module, *arguments, cwd=folder, timeout=TIMEOUT_S))


def arguments_of(command: Command, folder: Path) -> list[str]:
    """The module of a command and its arguments, with ``$(cat FILE)`` replaced."""
    dash_m, *arguments = [*MODULES[command.program], *command.words]
    assert dash_m == "-m", command
    return [re.sub(r"\$\(<(.+?)\)", lambda match: (folder / match[1]).read_text().strip(), word) for word in arguments]


def check(name: str, ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, f"{name}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
