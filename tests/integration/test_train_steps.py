"""Training steps as processes: killed, stopped, resumed, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mm1.errors import Outcome
from mm1.lineage.gc import find_garbage
from mm1.manifests import Checkpoint, load
from mm1.store.base import blob_key
from mm1.store.local import LocalStore
from tests.support.tiny_runs import SMALL_PARTS, small_mix
from tests.support.waiting import wait_for_end, wait_until
from tests.support.warm_python import WarmProcess, WarmPython

pytestmark = pytest.mark.integration
TIMEOUT_S = 240
STEPS = 40
RUN = (
    *SMALL_PARTS,
    f"train.steps={STEPS}",
    "train.global_batch=4",
    "train.micro_batch=4",
    "train.checkpoint_every=5",
    "log.progress_every_s=0.01",
)


@dataclass
class Trial:
    """One store with a step that trains into it."""

    root: Path
    data: str
    python: WarmPython

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "store")

    def arguments(self, recipe: str = "mm1_tiny", run=RUN) -> list[str]:
        overrides = [item for override in run for item in ("--set", override)]
        paths = {"--store": "store", "--work": "work", "--progress": "progress"}
        paths |= {"--out.manifest": "manifest", "--artifact.metrics.json": "metrics.json"}
        options = [item for option, name in paths.items() for item in (option, str(self.root / name))]
        return ["--data", self.data, "--recipe", recipe, *overrides, *options]

    def start(self, *more: str, env: dict[str, str] | None = None, step: str = "pretrain", **keywords) -> WarmProcess:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "log.txt").open("a") as log:
            arguments = [*self.arguments(**keywords), *more]
            return self.python.start(f"mm1_components.{step}", *arguments, stdout=log, stderr=log, env=env)

    def finish(self, *arguments: str, **keywords) -> int:
        return self.start(*arguments, **keywords).wait(TIMEOUT_S)

    @property
    def log(self) -> str:
        return (self.root / "log.txt").read_text()

    def wait_for_step(self, process: WarmProcess, step: int) -> None:
        progress = self.root / "progress"
        self._wait(process, lambda: progress.is_file() and int(progress.read_text().split("/")[0] or 0) >= step)

    def wait_for_checkpoint(self, process: WarmProcess) -> None:
        """Checkpoints are written beside the training: they may be there only some steps later."""
        self._wait(process, lambda: any(self.store.list("resume/")))

    def _wait(self, process: WarmProcess, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            assert process.poll() is None, self.log[-3000:]
            return condition()

        wait_until(holds, "a step of the training", TIMEOUT_S)

    def digest(self) -> str:
        return (self.root / "manifest").read_text().rpartition("/")[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return small_mix(tmp_path_factory.mktemp("data"))[1]


@pytest.fixture(scope="module")
def undisturbed(made_once, data, warm_python) -> Trial:
    """A run that starts as outside of tests, cold; on one core and no GPU, as the warm ones that it is compared with."""

    def train(folder: Path) -> None:
        command = [sys.executable, "-m", "mm1_components.pretrain", *Trial(folder, data, warm_python).arguments()]
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        try:
            env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        finally:
            os.sched_setaffinity(0, cores)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, output[-3000:]

    return Trial(made_once("undisturbed", train), data, warm_python)


def test_a_run_leaves_checkpoint_metrics_and_record(undisturbed):
    checkpoint = load((undisturbed.root / "manifest").read_text(), Checkpoint)
    assert (checkpoint.step, checkpoint.stage, checkpoint.trainer) == (STEPS, "pretrain", {})
    metrics = json.loads((undisturbed.root / "metrics.json").read_text())
    assert metrics["steps"] == STEPS
    assert set(metrics["final_losses"]) <= {"all", "captions", "interleaved", "text"}
    record = undisturbed.store.read_json("runs/manual/pretrain.json")
    assert record["facts"]["processes"] == 1
    assert record["facts"]["tokens_per_s"] > 0
    assert list(undisturbed.store.list("resume/")) == []


def test_killed_and_started_again_gives_the_same_manifest(tmp_path, data, warm_python, undisturbed):
    trial = Trial(tmp_path, data, warm_python)
    process = trial.start()
    trial.wait_for_step(process, 12)
    below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(below) >= 2
    process.kill()
    process.wait()
    wait_for_end(below, "the trainer, as the step that started it has ended")
    assert trial.finish() == 0, trial.log[-3000:]
    assert "resuming after step" in trial.log
    assert trial.digest() == undisturbed.digest()


def test_sigterm_saves_and_the_next_start_goes_on(tmp_path, data, warm_python, undisturbed):
    trial = Trial(tmp_path, data, warm_python)
    process = trial.start()
    trial.wait_for_step(process, 8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == Outcome.PREEMPTED, trial.log[-3000:]
    assert "run the same command again" in trial.log
    assert len(list(trial.store.list("resume/"))) == 1
    assert trial.finish() == 0, trial.log[-3000:]
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from"] >= 8
    assert trial.digest() == undisturbed.digest()


def test_a_budget_ends_in_a_checkpoint_and_a_larger_one_goes_on(tmp_path, data, warm_python, undisturbed):
    trial = Trial(tmp_path, data, warm_python)
    budget = ("--device-hours", "0.000001", "--out.device_hours_left", str(tmp_path / "left"))
    assert trial.finish(*budget) == Outcome.BUDGET, trial.log[-3000:]
    assert "stopped after step 1 of" in trial.log and "with a larger device_hours" in trial.log
    record = trial.store.read_json("runs/manual/pretrain.json")
    assert record["outcome"] == Outcome.BUDGET and 0 < record["facts"]["device_hours"] < 1
    started = trial.log.count("resuming")
    assert trial.finish(*budget) == Outcome.BUDGET, "the same run: its budget is used up"
    assert "no step was trained" in trial.log and trial.log.count("resuming") == started
    assert trial.finish("--device-hours", "5", *budget[2:]) == 0, trial.log[-3000:]
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from"] == 1
    assert 4 < float((tmp_path / "left").read_text()) < 5
    assert trial.digest() == undisturbed.digest()
    assert trial.finish("--device-hours", "2.5", *budget[2:]) == 0 and "cached" in trial.log
    assert (tmp_path / "left").read_text() == "2.5", "a result from the cache spends nothing"


@pytest.mark.parametrize(
    ("arguments", "keywords", "code", "says"),
    [
        ((), {"recipe": "mm1_tinny"}, Outcome.CONFIGURATION, "did you mean 'mm1_tiny'"),
        ((), {"run": ("train.stepz=1",)}, Outcome.CONFIGURATION, "did you mean 'steps'"),
        ((), {"run": ("train.global_batch=0",)}, Outcome.CONFIGURATION, "train.global_batch"),
        (
            (),
            {"recipe": "mm1_tiny_sft", "run": ()},
            Outcome.CONFIGURATION,
            "expects a recipe of stage text or pretrain, got mm1_tiny_sft of stage sft",
        ),
        (("--decoder", "tests"), {}, Outcome.CONFIGURATION, "only the text stage"),
        (("--device-hours", "-1"), {}, Outcome.CONFIGURATION, "device_hours: expected a number of at least 0, got -1"),
        (("--device-hours", "ten"), {}, Outcome.CONFIGURATION, "set a number of hours, or nothing for no limit"),
    ],
)
def test_wrong_input_is_refused_before_training(tmp_path, data, warm_python, arguments, keywords, code, says):
    trial = Trial(tmp_path, data, warm_python)
    assert trial.finish(*arguments, **keywords) == code
    assert says in trial.log
    assert not (tmp_path / "manifest").exists()


def test_a_finished_run_goes_on_with_more_steps(tmp_path, data, warm_python):
    trial = Trial(tmp_path, data, warm_python)
    constant = (*RUN, "schedule.shape=constant", "schedule.warmup_steps=2")
    assert trial.finish(run=(*constant, "train.steps=4", "train.keep_state=true")) == 0, trial.log[-3000:]
    first = (tmp_path / "manifest").read_text()
    assert trial.finish("--resume", first, run=(*constant, "train.steps=4")) == Outcome.CONFIGURATION
    assert "train.steps=4, but the checkpoint to resume is at step 4" in trial.log
    assert trial.finish("--resume", first, run=(*constant, "train.steps=6")) == 0, trial.log[-3000:]
    assert "resuming after step 4 of 6" in trial.log
    second = (tmp_path / "manifest").read_text()
    checkpoint = load(second, Checkpoint)
    assert (checkpoint.step, checkpoint.sequences_seen, checkpoint.trainer) == (6, 24, {})
    assert first.rpartition("/")[2].removesuffix(".json") in checkpoint.parents
    assert list(trial.store.list("resume/")) == []
    assert trial.finish("--resume", second, run=(*constant, "train.steps=8")) == Outcome.CONFIGURATION
    assert "has no optimizer state, which a run publishes at its end with train.keep_state=true" in trial.log
    garbage = find_garbage(trial.store, keep=1, min_age_s=0)
    continued = load(first, Checkpoint)
    assert not {blob_key(ref) for ref in continued.trainer.values()} & set(garbage.keys)


def test_a_vision_tower_has_a_step_of_its_own(tmp_path, data, warm_python):
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.steps=3")
    assert trial.finish(recipe="mm1_tiny_clip", run=run) == Outcome.CONFIGURATION
    assert "pretrain expects a recipe of stage text or pretrain, got mm1_tiny_clip of stage vision" in trial.log
    assert trial.finish(recipe="mm1_tiny_clip", run=run, step="pretrain_vision") == 0, trial.log[-3000:]
    tower = (tmp_path / "manifest").read_text()
    assert load(tower, Checkpoint).stage == json.loads((tmp_path / "metrics.json").read_text())["stage"] == "vision"
    record = trial.store.read_json("runs/manual/pretrain_vision.json")
    assert record["facts"]["processes"] == 1
    small = [item for item in RUN if not item.startswith(("model.vision.", "model.decoder."))]
    assert trial.finish("--init", tower, run=(*small, "train.steps=1")) == 0, trial.log[-3000:]
    assert load((tmp_path / "manifest").read_text(), Checkpoint).parents[1] == tower.rpartition("/")[2].removesuffix(".json")


def test_a_rank_that_fails_tells_its_class(tmp_path, data, warm_python):
    trial = Trial(tmp_path, data, warm_python)
    run = (*SMALL_PARTS, "train.steps=30", "train.global_batch=4", "train.micro_batch=4", "optim.lr=1e30", "optim.clip=0")
    assert trial.finish(run=run) == Outcome.DIVERGED, trial.log[-3000:]
    assert "a smaller optim.lr" in trial.log
    record = trial.store.read_json("runs/manual/pretrain.json")
    assert record["outcome"] == Outcome.DIVERGED
