"""The workflow ablate on the small world of the run `toy`, whose results its cells use again."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mm1.lineage.records import RunRecords, read_run
from mm1.manifests import EvalReport, StudyPlan, load
from mm1.store.open import open_store
from mm1.world.write import PARTS
from mm1_components.wrapper.raw_data import SOURCES
from tests.support.documentation import ROOT
from tests.support.toy_chain import FEW
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
MIXING = {"thresholds": "quality>=0.1", "holdout": "0.01"}


@pytest.fixture
def place(toy_run: Path, tmp_path: Path) -> Path:
    """A folder with a study, and a store that has the results of the run `toy`."""
    shutil.copytree(toy_run / "runs" / "store", tmp_path / "runs" / "store")
    sources = {name: str(toy_run / "world" / name) for name in SOURCES if name in PARTS}
    base = {
        "data": {**sources, "preset": "toy"},
        "text_mix": {"weights": "text", **MIXING},
        "text_base": {"recipe": "mm1_tiny_lm", "overrides": FEW},
        "mix": MIXING,
        "pretrain": {"recipe": "mm1_tiny", "overrides": FEW},
        "evaluate": {"benchmarks": str(toy_run / "world" / "benchmarks"), "items": 8},
    }
    study = {
        "title": "Small",
        "paper": {"section": "3.2", "says": "Nothing at this size."},
        "base": "base.yaml",
        "factor": "mixture",
        "levels": {"100/0": {"mix.weights": "captions=1"}, "50/50": {"mix.weights": "captions=0.5,interleaved=0.5"}},
        "seeds": [3],
        "scores": {"vague": {"mean": ["vague/2/accuracy"]}},
        "claims": [{"says": "Pages help.", "score": "vague", "better": "50/50", "than": "100/0", "effect": 0.1}],
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def ablate(python: WarmPython, place: Path) -> subprocess.CompletedProcess[str]:
    command = ["run", str(ROOT / "workflows" / "ablate.py"), "--run", "a", "-p", "studies=small.yaml"]
    return python.run("mm1_workflows.cli", *command, cwd=place, timeout=300)


def records(place: Path) -> RunRecords:
    return read_run(open_store(str(place / "runs" / "store")), "a")


def test_cells_use_earlier_results_and_the_report_has_a_verdict(place: Path, warm_python: WarmPython) -> None:
    made = ablate(warm_python, place)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    tasks = records(place).tasks
    names = ("small.100-0.s3", "small.50-50.s3")
    assert tasks["bases-text_base"].cache_hit  # data, mixture and text base are those of the run `toy`
    assert all(tasks[f"train-{name}/text_base"].cache_hit for name in names)
    assert not any(tasks[f"train-{name}/pretrain"].cache_hit for name in names)
    assert tasks[f"train-{names[0]}/mix"].inputs["seed"] == 3 and tasks[f"train-{names[0]}/pretrain"].inputs["seed"] == 3
    plan = load(tasks["study-plan"].manifest, StudyPlan)
    assert [cell.name for cell in plan.cells] == list(names)
    scores = load(tasks[f"evaluate-{names[1]}"].manifest, EvalReport).scores
    assert {(score.task, score.shots) for score in scores} == {("vague", 2)}
    verdicts = (place / "runs/a/study-report/studies.json").read_text()
    assert "Pages help." in verdicts and json.loads(verdicts)
    assert "runs/a/study-report/report.html" in made.stdout and "train" in made.stdout

    again = ablate(warm_python, place)
    assert again.returncode == 0, again.stdout[-3000:]
    tasks = records(place).tasks
    assert all(tasks[f"{task}-{name}"].cache_hit for task in ("train", "evaluate") for name in names)
    assert (place / "runs/a/study-report/studies.json").read_text() == verdicts
