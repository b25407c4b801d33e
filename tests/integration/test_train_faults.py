"""Training steps as processes that meet with a fault: a rank killed, memory or disk exhausted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mm1.errors import Outcome
from mm1.manifests import Checkpoint, load
from tests.integration.test_train_steps import RUN, STEPS, TIMEOUT_S, Trial
from tests.support.tiny_runs import SMALL_PARTS, small_mix
from tests.support.waiting import wait_for_end
from tests.support.warm_python import WarmProcess

pytestmark = pytest.mark.integration
INJECTED = str(Path(__file__).parents[1] / "support" / "injected")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return small_mix(tmp_path_factory.mktemp("data"))[1]


def ranks_of(process: WarmProcess) -> list[int]:
    """The trainer processes of a step: the children of its torchrun."""
    return [rank.pid for torchrun in psutil.Process(process.pid).children() for rank in torchrun.children()]


def test_a_killed_rank_ends_the_others_and_fewer_go_on(tmp_path, data, warm_python):
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.micro_batch=2")
    process = trial.start("--processes", "2", run=run)
    trial.wait_for_checkpoint(process)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    killed = time.monotonic()
    os.kill(max(ranks), signal.SIGKILL)
    assert process.wait(TIMEOUT_S) == Outcome.NETWORK, trial.log[-3000:]
    assert time.monotonic() - killed < 60
    wait_for_end(ranks, "the other rank")
    assert trial.finish("--processes", "1", run=run) == 0, trial.log[-3000:]
    assert "the checkpoint was saved by 2 processes, this run has 1" in trial.log
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["resumed_from"] >= 5, metrics["steps"]) == (True, STEPS)


def test_out_of_memory_goes_on_with_half_the_micro_batch(tmp_path, data, warm_python):
    """128 sequences of 64 tokens at an inner width of 8,192: 256 MiB for each tensor that is kept."""
    env = os.environ | {"PYTHONPATH": INJECTED, "MM1_TEST_ROOM_MIB": "2500"}
    trial = Trial(tmp_path, data, warm_python)
    wide = (*SMALL_PARTS, "model.decoder.ffn_size=8192", "train.steps=1", "train.global_batch=128", "train.micro_batch=128")
    assert trial.finish(run=(*wide, "train.checkpoint_every=1"), env=env) == 0, trial.log[-3000:]
    assert "out of memory, micro_batch 128 -> 64" in trial.log
    record = trial.store.read_json("runs/manual/pretrain.json")
    assert record["facts"]["relaunched"][0].startswith("out of memory, micro_batch 128 -> 64")
    train = load((trial.root / "manifest").read_text(), Checkpoint).config["train"]
    assert (train["micro_batch"], train["global_batch"]) == (64, 128)


def test_ranks_that_diverge_start_again_without_the_batch(tmp_path, data, warm_python):
    env = os.environ | {"PYTHONPATH": INJECTED, "MM1_TEST_DIVERGE_AT": "3"}
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.micro_batch=2", "train.steps=5", "train.checkpoint_every=2")
    assert trial.finish("--processes", "2", run=run, env=env) == 0, trial.log[-3000:]
    (reason,) = trial.store.read_json("runs/manual/pretrain.json")["facts"]["relaunched"]
    assert reason == "diverged: the loss is nan; start again to resume from the last checkpoint and skip global batch 3"
    checkpoint = load((tmp_path / "manifest").read_text(), Checkpoint)
    assert (checkpoint.step, checkpoint.skipped) == (5, (3,))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["resumed_from"], metrics["facts"]["skipped_batches"]) == (2, 1)


def test_ranks_that_diverge_again_end_with_that_class(tmp_path, data, warm_python):
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.micro_batch=2", "train.steps=5", "optim.name=adamw", "optim.lr=1e30")
    assert trial.finish("--processes", "2", run=run) == Outcome.DIVERGED, trial.log[-3000:]
    assert "the run had diverged before, and skipping a batch did not help" in trial.log


def test_a_rank_that_does_not_arrive_ends_the_run_within_the_limit(tmp_path, data, warm_python):
    """The error names collective, step and rank, and the ranks' last collectives and stacks are kept with the run."""
    env = os.environ | {"PYTHONPATH": INJECTED, "MM1_TEST_LATE": "1:3:13"}
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.micro_batch=2", "train.collective_timeout_s=3")
    assert trial.finish("--processes", "2", run=run, env=env) == Outcome.NETWORK, trial.log[-3000:]
    (message,) = re.findall(
        r"pretrain failed .*: (a collective did not finish within 3 s .*); last collectives and stacks", trial.log
    )
    expected = r".* \(train.collective_timeout_s\) after step 3: gloo:all_reduce number \d+ of group \w+ \(\w+ \[\d+\]\); "
    assert re.fullmatch(expected + "ranks that did not arrive: 1", message)
    files = trial.store.read_json("runs/manual/pretrain.json")["facts"]["files"]
    kept = {name.split("-", 2)[-1]: address for name, address in files.items() if name.startswith("flight-recorder/")}
    assert {"rank-0.json", "rank-1.json", "stacks-rank-0.txt", "stacks-rank-1.txt"} <= set(kept)
    record = json.loads(Path(kept["rank-0.json"].removeprefix("file://")).read_text())
    assert (record["step"], record["collectives"][-1]["profiling_name"]) == (3, "gloo:all_reduce")
    assert "_come_late" in Path(kept["stacks-rank-1.txt"].removeprefix("file://")).read_text()


def test_storage_that_takes_several_limits_of_a_collective_only_delays(tmp_path, data, warm_python):
    """Rank 0 is slow to store and to verify a model: in a checkpoint, when the ranks start again, and at the end."""
    env = os.environ | {"PYTHONPATH": INJECTED, "MM1_TEST_SLOW_STORE_S": "5", "MM1_TEST_DIVERGE_AT": "3"}
    trial = Trial(tmp_path, data, warm_python)
    run = (*RUN, "train.micro_batch=2", "train.collective_timeout_s=2", "train.steps=4", "train.checkpoint_every=2")
    run = (*run, "train.zero_stage=3", "optim.name=adamw")
    assert trial.finish("--processes", "2", run=run, env=env) == 0, trial.log[-3000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["resumed_from"], metrics["steps"]) == (2, 4)
    assert metrics["facts"]["checkpoint_s"] >= 5, "longer than two limits"


def test_no_process_is_forked_once_there_is_a_process_group(tmp_path, data):
    """With worker processes, checkpoints, a profile and Weights & Biases, whose process starts by vfork and exec. An ordinary
    process, because a warm one forks where others execute a program."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([INJECTED, *sys.path[1:]]), "MM1_TEST_FORKS": "1"}
    run = (*RUN, "train.steps=3", "train.checkpoint_every=2", "train.loader_workers=2", "train.profile=1", "log.wandb=offline")
    arguments = Trial(tmp_path, data, python=None).arguments(run=run)
    command = [sys.executable, "-m", "mm1_components.pretrain", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stderr.splitlines() if line.startswith("fork")] == ["fork alone"] * 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(small_disk, data, warm_python):
    trial = Trial(small_disk / "trial", data, warm_python)
    process = trial.start()
    trial.wait_for_checkpoint(process)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    assert process.wait(TIMEOUT_S) == Outcome.NETWORK
    filler.unlink()
    assert trial.finish() == 0, trial.log[-3000:]
    assert json.loads((trial.root / "metrics.json").read_text())["resumed_from"] >= 5
