"""The files in examples/: each does what its docstring says, and is short."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.models.own import OwnModel
from mm1.generation.generator import Generator
from mm1.lineage.records import read_run
from mm1.manifests import DataMix, digest_of_manifest, load, manifest_key, publish
from mm1.modeling.export import export
from mm1.store.base import Store
from mm1.store.local import LocalStore
from mm1_components.ranks.stage_checks import resolve_run
from tests.support.mixtures import build_mix
from tests.support.official_files import write, write_images
from tests.support.tiny_mm1 import picture, tiny_mm1
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples"
FILES = {path.name for path in FOLDER.glob("*.py")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store, and the address of a RawData in it."""
    folder = tmp_path_factory.mktemp("examples")
    store = LocalStore(folder / "store")
    raw, _ = build_mix(store, folder, weights={"captions": 0.45, "interleaved": 0.45, "text": 0.1})
    publish(store, raw)
    return store, f"{store.uri}/{manifest_key(digest_of_manifest(raw))}"


def run(python: WarmPython, module: str, *words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(FOLDER)}
    return python.run(module, *map(str, words), env=env, cwd=cwd, timeout=120)


def test_each_is_short_linked_and_says_how_to_run_it() -> None:
    readme, contributing = (ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    for name in FILES:
        text = (FOLDER / name).read_text()
        assert len(text.splitlines()) < 40 and f"examples/{name}" in readme + contributing, name
        assert name.removesuffix(".py") in text.split('"""')[1], name
    assert len(FILES) == 6


def test_a_step_of_one_s_own_runs_and_is_cached(warm_python: WarmPython, data: tuple[Store, str], tmp_path: Path) -> None:
    store, raw = data
    words = ["--data", raw, "--least", 100, "--store", store.uri, "--run", "own", "--out.enough", tmp_path / "enough"]
    for cached in (False, True):
        ended = run(warm_python, "own_step", *words)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "enough").read_text() == "true"
        (record,) = read_run(store, "own").tasks.values()
        assert record.cache_hit == cached and record.outputs["images"] >= 100


@pytest.mark.parametrize(("least", "scalar"), [(100, "enough=true"), (100_000, "enough=false")])
def test_a_pipeline_of_one_s_own(
    warm_python: WarmPython, data: tuple[Store, str], tmp_path: Path, least: int, scalar: str
) -> None:
    store, raw = data
    file = FOLDER / "own_pipeline.py"
    linted = run(warm_python, "mm1_workflows.cli", "lint", file)
    assert linted.returncode == 0 and " 0 errors" in linted.stdout, linted.stdout + linted.stderr
    options = ["-p", f"data={raw}", "-p", f"least={least}", "--store", store.uri, "--run", f"r{least}"]
    ended = run(warm_python, "mm1_workflows.cli", "run", file, *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = {words[0]: words[1:] for line in ended.stdout.splitlines() if (words := line.split())}
    assert scalar in lines["count-images"] and any(word.startswith("images=") for word in lines["count-images"])
    assert ("data-mix" in lines) == (scalar == "enough=true")
    if "data-mix" in lines:
        load(lines["data-mix"][0], DataMix)


def test_a_recipe_of_one_s_own(warm_python: WarmPython) -> None:
    printed = run(warm_python, "own_recipe").stdout.strip()
    config = resolve_run("mm1_tiny", printed, seed=0)
    assert config.train.steps == 1000 and len(shlex.split(printed)) == 4


def test_an_evaluation_task_of_one_s_own(warm_python: WarmPython, tmp_path: Path) -> None:
    for number in range(12):
        file = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number))
    ended = run(warm_python, "own_task", tmp_path / "pictures", tmp_path / "benchmarks")
    assert ended.returncode == 0, ended.stderr
    config = EvalConfig(tasks=("animals",), shots=(0, 4), controls=False)
    outcome = evaluate(OwnModel(Generator(*tiny_mm1())), tmp_path / "benchmarks", "test", config, lambda done, total: None)
    assert [(score.task, score.shots, score.num_items) for score in outcome.scores] == [("animals", 0, 6), ("animals", 4, 6)]


def test_a_benchmark_of_one_s_own(tmp_path: Path) -> None:
    rows = [{"id": n, "photo": f"{n}.png", "season": ("spring", "winter")[n % 2], "place": "town"} for n in range(8)]
    for split, some in (("test", rows[:3]), ("train", rows[3:])):
        write(tmp_path / "seasons" / f"{split}.json", some)
    write_images(tmp_path / "seasons/photos", [row["photo"] for row in rows])
    config = EvalConfig(tasks=(str(FOLDER / "own_benchmark.py"),), shots=(0, 4), controls=False)
    outcome = evaluate(OwnModel(Generator(*tiny_mm1())), tmp_path, "test", config, lambda done, total: None)
    assert [(score.task, score.shots, score.num_items) for score in outcome.scores] == [("seasons", 0, 3), ("seasons", 4, 3)]


def test_the_python_api(warm_python: WarmPython, tmp_path: Path) -> None:
    folder = export(*tiny_mm1(), tmp_path / "model")
    (tmp_path / "picture.png").write_bytes(picture(1))
    ended = run(warm_python, "python_api", folder, tmp_path / "picture.png", "a red circle", "a blue square")
    assert ended.returncode == 0, ended.stderr
    assert [line.split(maxsplit=1)[1] for line in ended.stdout.splitlines()[-2:]] == ["a red circle", "a blue square"]
