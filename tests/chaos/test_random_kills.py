"""Faults at random moments of a pipeline, with one rank or two in turn: it ends with the manifests of an undisturbed run.

At ZeRO stage 0 and with the same micro-batch, the sum of two ranks' gradients is that of one rank's two micro-batches bit by
bit, if each rank computes with one thread. So weights and history are compared bit by bit although the number of ranks changes
in the middle of the training.

MM1_CHAOS_KILLS and MM1_CHAOS_SEED set the number of faults and their seed.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from mm1.errors import Outcome
from mm1.manifests import Checkpoint, load
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from tests.chaos.faults import TARGETS, provoke
from tests.support.flaky_proxy import FlakyProxy
from tests.support.s3_server import s3_server
from tests.support.tiny_runs import SMALL_PARTS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos
KILLS = int(os.environ.get("MM1_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("MM1_CHAOS_SEED", "0"))
PAUSE_S = (0.2, 8.0)
"""Shortest and longest time before a fault."""
LIFE_S = 900.0
"""Time limit of a pipeline that is no longer disturbed."""
PIPELINE = Path(__file__).parent / "pipeline.py"
PARTS = ("captions", "interleaved", "text")
TRAINING = (
    "train.steps=60",
    "train.global_batch=4",
    "train.micro_batch=2",
    "train.checkpoint_every=5",
    "schedule.warmup_steps=5",
    "log.wandb=off",
)
TASKS = ("ingest", "data-mix", "dense", "moe")
GOES_ON = {int(outcome) for outcome in Outcome if outcome.retried} | {-9}
"""Exit codes after which the same command continues: transient classes, and the kill of the supervisor itself. A step that was
killed is an unhandled error, as on a cluster: the cause is usually its memory."""


@dataclass
class Pipeline:
    """A pipeline with its own store.

    Attributes:
        store: address.
        folder: logs of its runs.
        world: raw data.
        runs: names of the runs so far, finished or not.
    """

    store: str
    folder: Path
    world: Path
    runs: list[str] = field(default_factory=list)

    def start(self, processes: int) -> psutil.Process:
        """Start a run, which continues with what the store has."""
        self.runs.append(f"run{len(self.runs)}")
        parameters = {part: str(self.world / part) for part in PARTS}
        parameters |= {"dense_overrides": " ".join((*SMALL_PARTS, *TRAINING)), "moe_overrides": " ".join(TRAINING)}
        parameters["processes"] = str(processes)
        given = [text for name, value in parameters.items() for text in ("-p", f"{name}={value}")]
        options = ["--run", self.runs[-1], "--store", self.store, "--folder", str(self.folder)]
        command = [sys.executable, "-m", "mm1_workflows.cli", "run", str(PIPELINE), *options, *given]
        with self.log.open("a") as log:
            process = psutil.Process(subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log).pid)
        process.cpu_affinity([max(os.sched_getaffinity(0))])  # one thread for each rank, however many there are
        return process

    @property
    def log(self) -> Path:
        """Output of all its runs."""
        return self.folder / "log.txt"

    def end_of(self, process: psutil.Process) -> int:
        """Wait until an undisturbed run ends, and return its exit code."""
        code = exit_code(process, LIFE_S)
        assert code is not None, f"no end after {LIFE_S:g} s, see {self.log}"
        return code

    def results(self) -> dict[str, str]:
        """Return the addresses of the manifests of the last run, by task."""
        store = open_store(self.store)
        records = {task: store.read_json(f"runs/{self.runs[-1]}/{task}.json") for task in TASKS}
        return {task: record["outputs"]["manifest"] for task, record in records.items()}


def exit_code(process: psutil.Process, seconds: float) -> int | None:
    """Wait for a process; return its exit code, or None if it is still running."""
    try:
        return process.wait(seconds)
    except psutil.TimeoutExpired:
        return None


def disturb(pipeline: Pipeline, proxy: FlakyProxy, chance: random.Random, kills: int) -> Counter[str]:
    """Provoke faults until the pipeline has its results or the number is reached; return the faults by target."""
    provoked: Counter[str] = Counter()
    target = chance.choice(TARGETS)
    while True:
        process = pipeline.start(processes=1 + len(pipeline.runs) % 2)
        while provoked.total() < kills and exit_code(process, chance.uniform(*PAUSE_S)) is None:
            if provoke(target, process, proxy, chance):  # if not, the target is not there yet
                provoked[target] += 1
                target = chance.choice(TARGETS)
        code = pipeline.end_of(process)
        if code == 0:
            return provoked
        killed = code == Outcome.UNHANDLED and "killed by SIGKILL" in pipeline.log.read_text()
        assert code in GOES_ON or killed, f"exit code {code}, see {pipeline.log}"


def processes_of(store: str) -> list[psutil.Process]:
    """Return the processes that name a store on their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if store in (process.info["cmdline"] or ())]


def content(uri: str) -> dict[str, Any]:
    """Return a checkpoint's manifest without its number of ranks, and without parents, whose numbers of ranks differ."""
    return load(uri, Checkpoint).model_dump(exclude={"world_size", "parents"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for part in PARTS:
        write_part(part, folder / part, WorldConfig.small())
    return folder


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    """A bucket behind a proxy that can take it away."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    with s3_server(monkeypatch, "chaos"):
        address = urlsplit(os.environ["S3_ENDPOINT"])
        with FlakyProxy(str(address.hostname), int(address.port or 0)) as proxy:
            monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("OMP_NUM_THREADS", "1")
            yield proxy


def test_the_results_are_those_of_an_undisturbed_run(proxy, world, tmp_path):
    chance, provoked, number = random.Random(SEED), Counter(), 0
    undisturbed = Pipeline("s3://chaos/undisturbed", tmp_path / "undisturbed", world)
    undisturbed.folder.mkdir()
    assert undisturbed.end_of(undisturbed.start(processes=1)) == 0, undisturbed.log.read_text()[-3000:]
    expected = undisturbed.results()
    while provoked.total() < KILLS:
        pipeline = Pipeline(f"s3://chaos/disturbed{number}", tmp_path / f"disturbed{number}", world)
        pipeline.folder.mkdir()
        provoked += disturb(pipeline, proxy, chance, KILLS - provoked.total())
        results, number = pipeline.results(), number + 1
        for task in ("ingest", "data-mix"):
            assert results[task].rpartition("/")[2] == expected[task].rpartition("/")[2], task
        for task in ("dense", "moe"):
            assert content(results[task]) == content(expected[task]), task
        wait_until(lambda store=pipeline.store: not processes_of(store), "the pipeline's processes to end")
    print(f"{provoked.total()} faults in {number} pipelines: {dict(provoked)}")
