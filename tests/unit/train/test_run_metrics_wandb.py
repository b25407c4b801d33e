"""Weights & Biases beside a run: the real one offline once, stand-ins for what can go wrong with it."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from mm1.store.local import LocalStore
from mm1.train import run_files as kept
from mm1.train.callbacks import wandb as callback_module
from mm1.train.callbacks.wandb import Wandb, follow, run_id
from mm1.train.progress import Progress
from tests.support.waiting import wait_for_end, wait_until

STAND_IN = """
import json, os, sys
notes = open({path!r}, "a", buffering=1)
class Settings(dict):
    pass
class Run:
    def log(self, row, step):
        assert row["step"] == step
        notes.write(json.dumps({{"row": step}}) + "\\n")
    def finish(self):
        notes.write(json.dumps({{"finished": True}}) + "\\n")
def init(**given):
    notes.write(json.dumps({{**given, "environment": dict(os.environ), "pid": os.getpid()}}) + "\\n")
    return Run()
"""


EVERY_S = 2.0
"""Between two steps: long enough that all rows are handed on."""


class Beside:
    """A run that writes rows, with the process beside it."""

    def __init__(self, folder, mode="offline", step=0):
        self.folder, self.progress = folder, Progress(100, step=step)
        self.store = LocalStore(folder / "store")
        self.metrics = folder / "metrics.jsonl"
        self.metrics.touch()
        self.callback = Wandb(mode, folder, self.store, "work", config={"recipe": "mm1_tiny"}, metrics=self.metrics)
        self.callback.on_start(self.progress)

    def do_steps(self, number):
        with self.metrics.open("a") as file:
            for _ in range(number):
                self.progress.step += 1
                row = {"step": self.progress.step, "time": EVERY_S * self.progress.step, "loss": 0.5, "loss/captions": 0.25}
                file.write(json.dumps(row) + "\n")

    def look(self):
        self.callback.on_step(self.progress, None, 1.0)

    def end(self):
        process = self.callback.process
        self.callback.on_end(self.progress)
        assert process is None or not psutil.pid_exists(process.pid)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a program in the place of wandb; gives what it noted."""

    def put(program):
        (tmp_path / "stand-in").mkdir()
        (tmp_path / "stand-in" / "wandb.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-in"))

    put.noting = lambda: put(STAND_IN.format(path=str(tmp_path / "notes.jsonl")))
    put.notes = lambda: [json.loads(line) for line in (tmp_path / "notes.jsonl").read_text().splitlines()]
    return put


def test_an_offline_run_has_all_rows_and_touches_nothing_else(tmp_path, monkeypatch, caplog):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    before = {process.pid for process in psutil.process_iter()}
    with caplog.at_level(logging.INFO):
        run = Beside(tmp_path)
        run.do_steps(5)
        run.end()
    assert f"run {run_id('work')}, files in {tmp_path}/wandb" in caplog.text
    assert "is missing rows" not in caplog.text
    files = kept.take(run.store, "work", tmp_path / "rows.jsonl")
    ((name, ref),) = files.items()
    assert name.startswith("wandb/offline-run-") and name.endswith(f"-{run_id('work')}.wandb")
    assert run.store.get_bytes(ref).count(b"loss/captions") >= 5
    assert list(home.rglob("*")) == []
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"0123456789abcdef0123" not in path.read_bytes(), path
    after = [process for process in psutil.process_iter(["cmdline"]) if process.pid not in before]
    assert not [process for process in after if "wandb-core" in " ".join(process.info["cmdline"] or [])]


def test_a_resumed_run_has_the_same_id_and_only_its_new_rows(tmp_path, stand_in):
    stand_in.noting()
    first = Beside(tmp_path, mode="online")
    first.do_steps(3)
    first.end()
    second = Beside(tmp_path, mode="online", step=3)
    second.do_steps(2)
    second.end()
    starts = [note for note in stand_in.notes() if "id" in note]
    assert [start["id"] for start in starts] == [run_id("work")] * 2
    assert {start["resume"] for start in starts} == {"allow"}
    assert [note["row"] for note in stand_in.notes() if "row" in note] == [1, 2, 3, 4, 5]
    assert sum("finished" in note for note in stand_in.notes()) == 2
    assert list(first.store.list(kept.address("work"))) == [], "the server has it"


@pytest.mark.parametrize(("mode", "has_key"), [("offline", False), ("online", True)])
def test_settings_are_given_not_found(tmp_path, stand_in, monkeypatch, mode, has_key):
    stand_in.noting()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    Beside(tmp_path, mode=mode).end()
    (start, _) = stand_in.notes()
    assert (start["settings"]["mode"], start["dir"]) == (mode, str(tmp_path))
    assert ("WANDB_API_KEY" in start["environment"]) == has_key
    assert start["environment"]["WANDB_ERROR_REPORTING"] == "false"
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "TMPDIR"):
        assert Path(start["environment"][name]).is_relative_to(tmp_path)


def test_a_wandb_that_does_not_start_is_one_warning(tmp_path, stand_in, caplog):
    stand_in("raise OSError('no wandb today')")
    run = Beside(tmp_path)
    run.callback.process.wait(30)
    for _ in range(3):
        run.do_steps(1)
        run.look()
    run.end()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "its process exited early: OSError: no wandb today" in record.getMessage()


def test_a_wandb_that_hangs_is_ended(tmp_path, stand_in, caplog, monkeypatch):
    monkeypatch.setitem(callback_module.END_S, "offline", 0.5)
    stand_in("import time; time.sleep(600)")
    run = Beside(tmp_path)
    run.do_steps(2)
    run.end()
    assert "did not exit within" in caplog.text


def test_of_a_quick_run_some_rows_are_handed_on_and_the_last(tmp_path):
    path, ended = tmp_path / "metrics.jsonl", threading.Event()
    path.write_text("".join(json.dumps({"step": step, "time": 0.4 * step}) + "\n" for step in range(1, 12)))
    ended.set()
    assert [row["step"] for row in follow(path, 2, ended)] == [3, 6, 9, 11]
    assert [row["step"] for row in follow(path, 11, ended)] == []


def test_no_row_with_validation_losses_is_skipped(tmp_path):
    path, ended = tmp_path / "metrics.jsonl", threading.Event()
    rows = [{"step": step, "time": 0.01 * step} | ({"validation/text": 2.0} if step == 3 else {}) for step in range(1, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended.set()
    assert [row["step"] for row in follow(path, 0, ended)] == [1, 3, 5]


def test_it_ends_with_a_trainer_that_is_killed(tmp_path, stand_in):
    stand_in.noting()
    program = f"""
import os, signal
from pathlib import Path
from tests.support.waiting import wait_until
from tests.unit.train.test_run_metrics_wandb import Beside
run = Beside(Path({str(tmp_path)!r}))
run.do_steps(4)
wait_until(Path({str(tmp_path / "notes.jsonl")!r}).exists, "the start of wandb")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False)
    wait_until(lambda: "finished" in stand_in.notes()[-1], "the end of wandb's run")
    notes = stand_in.notes()
    assert [note["row"] for note in notes if "row" in note] == [1, 2, 3, 4]
    wait_for_end([notes[0]["pid"]], "the process of wandb")
