"""A budget of device hours ends a run with a checkpoint, on two ranks at the same step; later it goes on as if nothing was."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.errors import Ending, Outcome
from mm1.manifests import Checkpoint, load
from mm1.store.local import LocalStore
from mm1.train import run_files
from mm1.train.config import TrainJob, TrainResult
from tests.support.tiny_runs import job_of, small_mix, small_run
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
CONFIG = small_run("mm1_tiny", "optim.name=adamw", "optim.lr=1e-3", "train.steps=3", "train.zero_stage=1")
A_MOMENT = 1e-9
"""Device hours that are used up before the first step."""


def with_budget(job: TrainJob, run: str, device_hours: float | None) -> TrainJob:
    return job.model_copy(update={"run": run, "device_hours": device_hours})


@pytest.fixture(scope="module")
def root(made_once, warm_python: WarmPython) -> Path:
    """A store with a run that had no budget, and one that was cut by its budget and continued; two gloo ranks."""

    def train(folder: Path) -> None:
        store, data, _ = small_mix(folder)
        whole = job_of(CONFIG, store, data, folder / "whole", "whole")
        cut = job_of(CONFIG, store, data, folder / "cut", "cut")
        jobs = {
            "whole": with_budget(whole, "r1", 1000.0),
            "first": with_budget(cut, "r1", A_MOMENT),
            "again": with_budget(cut, "r1", A_MOMENT),
            "last": with_budget(cut, "r2", None),
        }
        paths = []
        for name, job in jobs.items():
            path = Path(job.folder) / f"{name}.json"
            path.write_text(job.model_dump_json())
            paths.append(str(path))
        launcher = ("--standalone", "--nproc_per_node", "2", "-m", "tests.support.rank_program")
        done = warm_python.run("torch.distributed.run", *launcher, *paths, timeout=400)
        assert done.returncode == 0, done.stderr[-4000:]

    return made_once("budget", train)


@pytest.mark.parametrize(("name", "step"), [("first", 1), ("again", 2)])
def test_both_ranks_stop_after_the_step_that_used_the_budget_up(root, name, step):
    for rank in range(2):
        ending = Ending.from_json((root / "cut" / f"{name}.ended{rank}").read_text())
        assert ending.outcome is Outcome.BUDGET, "only rank 0 counts, and both end"
        assert ending.message.startswith(f"stopped after step {step} of 3, checkpoint saved: the budget of 1e-09 device hours")


def test_the_run_goes_on_and_ends_as_without_a_budget(root):
    results = [
        TrainResult.model_validate_json(path.read_text())
        for path in (root / "whole" / "whole.result", root / "cut" / "last.result")
    ]
    assert [result.resumed_from for result in results] == [0, 2]
    whole, cut = (load(result.manifest, Checkpoint) for result in results)
    assert cut == whole, "history, weights and all"


def test_device_hours_are_those_of_both_ranks_by_run(root):
    store = LocalStore(root / "store")
    whole, first, last = (
        run_files.device_hours(store, key, run) for key, run in (("whole", "r1"), ("cut", "r1"), ("cut", "r2"))
    )
    assert whole > 0 and first > 0 and run_files.device_hours(store, "cut", "r3") == 0
    assert last > first > whole, "in this test all starts are of one process, and each is counted from its beginning"
