"""Finished runs of two processes that are continued, by two processes bit by bit, and by one within rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.manifests import Checkpoint, load
from mm1.store.local import LocalStore
from mm1.train.config import TrainJob, TrainResult
from mm1.train.continuation import continued
from tests.integration.test_train_ranks import Ended, ended, train
from tests.support.tiny_runs import job_of, small_mix, small_run

pytestmark = pytest.mark.integration
CONSTANT = ("schedule.shape=constant", "schedule.warmup_steps=2", "train.keep_state=true", "optim.name=adamw", "optim.lr=1e-3")
CASES = {
    "dense": ("mm1_tiny", "train.zero_stage=2"),
    "experts": ("mm1_tiny_moe", "train.zero_stage=1", "train.expert_parallel=2"),
}
ON_ONE_PROCESS = ("train.zero_stage=0", "train.expert_parallel=1")


@pytest.fixture(scope="module")
def runs(made_once, warm_python) -> dict[str, Ended]:
    """The end of each run, by name."""

    def train_all(root: Path) -> None:
        store, data, _ = small_mix(root)

        def job(name: str, case: str, steps: int, *overrides: str, resume: str = "") -> TrainJob:
            config = small_run(*CASES[case], *CONSTANT, f"train.steps={steps}", *overrides)
            made = job_of(config, store, data, root / name, name)
            if not resume:
                return made
            first = TrainResult.model_validate_json((root / resume / "job.result").read_bytes()).manifest
            return made.model_copy(update={"resume": first, "config": continued(config, load(first, Checkpoint))})

        whole = [job(f"{case}-whole", case, 6) for case in CASES]
        train(warm_python, 2, [*whole, *(job(f"{case}-first", case, 3) for case in CASES)], cut=[])
        again = [job(f"{case}-same", case, 6, resume=f"{case}-first") for case in CASES]
        train(warm_python, 2, again, cut=[])
        fewer = [job(f"{case}-fewer", case, 6, *ON_ONE_PROCESS, resume=f"{case}-first") for case in CASES]
        train(warm_python, 1, fewer, cut=[])

    root = made_once("continued", train_all)
    names = [f"{case}-{end}" for case in CASES for end in ("whole", "same", "fewer")]
    return {name: ended(root / name, LocalStore(root / "store")) for name in names}


@pytest.mark.parametrize("case", CASES)
def test_on_the_same_processes_it_is_one_run(runs, case):
    whole, same = runs[f"{case}-whole"], runs[f"{case}-same"]
    assert same.rows == whole.rows
    assert (same.checkpoint.model, same.checkpoint.trainer) == (whole.checkpoint.model, whole.checkpoint.trainer)


@pytest.mark.parametrize("case", CASES)
def test_on_fewer_processes_it_is_the_same_within_rounding(runs, case):
    whole, fewer = runs[f"{case}-whole"], runs[f"{case}-fewer"]
    assert (whole.checkpoint.world_size, fewer.checkpoint.world_size) == (2, 1)
    assert fewer.rows[:3] == whole.rows[:3]
    for left, right in zip(whole.rows, fewer.rows, strict=True):
        assert (right["tokens"], right["images"]) == (left["tokens"], left["images"])
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)
        assert right["lr"] == left["lr"]
