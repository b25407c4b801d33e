"""The toy world's benchmarks are written once on a machine, whole, and removed when nothing uses them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mm1.errors import ConfigurationError
from mm1.world.config import WorldConfig
from mm1_components.wrapper import world_copies
from mm1_components.wrapper.sources import raw_files

SMALL = WorldConfig(seed=1)


@pytest.fixture(autouse=True)
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were written; what is written is one file."""
    folders: list[Path] = []

    def write(part: str, folder: Path, config: WorldConfig) -> Path:
        time.sleep(0.05)
        folder.mkdir()
        (folder / "world.json").write_text(f"{part} {config.seed} {config.image_size_px}")
        folders.append(folder)
        return folder

    monkeypatch.setattr(world_copies, "write_part", write)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return folders


def test_two_evaluations_at_once_share_one_copy(written: list[Path], tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(raw_files("world:3?image_size=64", "benchmarks", tmp_path / "work")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1 and set(found) == set(written)
    assert (found[0] / "world.json").read_text() == "benchmarks 3 64"
    assert written[0].parent.stat().st_mode & 0o777 == 0o700
    raw_files("world:3", "benchmarks", tmp_path / "work")
    assert len(written) == 2, "other images"


def test_copies_of_other_code_are_others(written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    world_copies.world_copy("benchmarks", SMALL)
    monkeypatch.setattr(world_copies, "_code", lambda: "other")
    world_copies.world_copy("benchmarks", SMALL)
    assert len(set(written)) == 2


def test_old_copies_and_unfinished_ones_go_when_another_is_written(written: list[Path]) -> None:
    first = world_copies.world_copy("benchmarks", WorldConfig(seed=1))
    second = world_copies.world_copy("benchmarks", WorldConfig(seed=2))
    (first.parent / ".benchmarks.1f").mkdir()
    for folder in (first, second):
        os.utime(folder, (0, 0))
    assert world_copies.world_copy("benchmarks", WorldConfig(seed=2)) == second, "its use makes it young"
    third = world_copies.world_copy("benchmarks", WorldConfig(seed=3))
    assert sorted(path.name for path in first.parent.iterdir()) == sorted((second.name, third.name))


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"mm1-worlds-{os.geteuid()}").mkdir(mode=0o777)
    (tmp_path / f"mm1-worlds-{os.geteuid()}").chmod(0o777)
    with pytest.raises(ConfigurationError, match="expected a folder of user"):
        world_copies.world_copy("benchmarks", SMALL)
