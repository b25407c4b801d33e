"""Training steps as processes: killed, stopped, resumed, and what they say when something is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mm1.errors import Outcome
from mm1.manifests import Checkpoint, load
from mm1.store.local import LocalStore
from tests.support.tiny_runs import SMALL_PARTS, small_mix

pytestmark = pytest.mark.integration
TIMEOUT_S = 240
STEPS = 30
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

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "store")

    def start(self, *arguments: str, step: str = "pretrain", recipe: str = "mm1_tiny", run=RUN) -> subprocess.Popen:
        self.root.mkdir(parents=True, exist_ok=True)
        overrides = [item for override in run for item in ("--set", override)]
        command = [sys.executable, "-m", f"mm1_components.{step}", "--data", self.data, "--recipe", recipe, *overrides]
        places = [
            "--store",
            str(self.root / "store"),
            "--work",
            str(self.root / "work"),
            "--progress",
            str(self.root / "progress"),
        ]
        outputs = ["--out.manifest", str(self.root / "manifest"), "--artifact.metrics.json", str(self.root / "metrics.json")]
        log = (self.root / "log.txt").open("a")
        return subprocess.Popen([*command, *places, *outputs, *arguments], stdout=log, stderr=log)

    def finish(self, *arguments: str, **keywords) -> int:
        return self.start(*arguments, **keywords).wait(TIMEOUT_S)

    @property
    def log(self) -> str:
        return (self.root / "log.txt").read_text()

    def wait_for_step(self, process: subprocess.Popen, step: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            file = self.root / "progress"
            if file.is_file() and int(file.read_text().split("/")[0] or 0) >= step:
                return
            time.sleep(0.01)
        raise AssertionError(f"step {step} was not reached:\n{self.log[-3000:]}")

    def digest(self) -> str:
        return (self.root / "manifest").read_text().rpartition("/")[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return small_mix(tmp_path_factory.mktemp("data"))[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data) -> Trial:
    trial = Trial(tmp_path_factory.mktemp("undisturbed"), data)
    assert trial.finish() == 0, trial.log[-3000:]
    return trial


def trainers_below(folder: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


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


def test_killed_and_started_again_gives_the_same_manifest(tmp_path, data, undisturbed):
    trial = Trial(tmp_path, data)
    process = trial.start()
    trial.wait_for_step(process, 12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while trainers_below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert trainers_below(tmp_path) == [], "the trainer outlived the step that started it"
    assert trial.finish() == 0, trial.log[-3000:]
    assert "goes on after step" in trial.log
    assert trial.digest() == undisturbed.digest()


def test_sigterm_saves_and_the_next_start_goes_on(tmp_path, data, undisturbed):
    trial = Trial(tmp_path, data)
    process = trial.start()
    trial.wait_for_step(process, 8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == Outcome.PREEMPTED, trial.log[-3000:]
    assert "run the same command again" in trial.log
    assert len(list(trial.store.list("resume/"))) == 1
    assert trial.finish() == 0, trial.log[-3000:]
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from"] >= 8
    assert trial.digest() == undisturbed.digest()


@pytest.mark.parametrize(
    ("arguments", "keywords", "code", "says"),
    [
        ((), {"recipe": "mm1_tinny"}, Outcome.CONFIGURATION, "did you mean 'mm1_tiny'"),
        ((), {"run": ("train.stepz=1",)}, Outcome.CONFIGURATION, "did you mean 'steps'"),
        ((), {"run": ("train.global_batch=0",)}, Outcome.CONFIGURATION, "train.global_batch"),
        ((), {"recipe": "mm1_tiny_sft", "run": ()}, Outcome.CONFIGURATION, "use the step sft"),
        (("--decoder", "tests"), {}, Outcome.CONFIGURATION, "goes into the text stage"),
    ],
)
def test_wrong_input_is_refused_before_training(tmp_path, data, arguments, keywords, code, says):
    trial = Trial(tmp_path, data)
    assert trial.finish(*arguments, **keywords) == code
    assert says in trial.log
    assert not (tmp_path / "manifest").exists()


def test_a_rank_that_fails_tells_its_class(tmp_path, data):
    trial = Trial(tmp_path, data)
    run = (*SMALL_PARTS, "train.steps=30", "train.global_batch=4", "train.micro_batch=4", "optim.lr=1e30", "optim.clip=0")
    assert trial.finish(run=run) == Outcome.DIVERGED, trial.log[-3000:]
    assert "a smaller optim.lr" in trial.log
    record = trial.store.read_json("runs/manual/pretrain.json")
    assert record["outcome"] == Outcome.DIVERGED
