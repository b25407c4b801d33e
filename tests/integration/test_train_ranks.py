"""Two processes (gloo) against one: same batches, same losses; experts shared by two processes against experts on each."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from mm1.checkpoint.read import load_model
from mm1.manifests import Checkpoint, load
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.config import RunConfig, TrainJob, TrainResult
from tests.support.tiny_runs import job_of, one_process, small_mix, small_run

pytestmark = pytest.mark.integration
CASES = {
    "dense": small_run("mm1_tiny"),
    "moe": small_run("mm1_tiny_moe"),
    "zero": small_run("mm1_tiny", "train.zero_stage=2", "optim.name=adamw"),
}
EXPERTS = ("optim.name=adamw", "optim.lr=1e-3", "train.steps=20", "train.checkpoint_every=19")
SPREAD = {
    f"zero{stage}-experts{size}": small_run(
        "mm1_tiny_moe", *EXPERTS, f"train.zero_stage={stage}", f"train.expert_parallel={size}"
    )
    for stage in (1, 2, 3)
    for size in (1, 2)
}
CUT = ("zero1-experts2", "zero3-experts2")
"""Of these, a second run is stopped after its first step and goes on."""


def run_here(jobs: list[TrainJob]) -> None:
    """In this process, to spare the start of another."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    one_process()
    for job in jobs:
        result = build_run(job, 0, 1).go()
        (Path(job.folder) / "job.result").write_text(result.model_dump_json())
    for number, handler in former.items():
        signal.signal(number, handler)


def run_all(jobs: list[TrainJob], world_size: int, cut: list[TrainJob] | None = None) -> None:
    paths = []
    for job, name in [*((job, "job.cut.json") for job in cut or ()), *((job, "job.json") for job in jobs)]:
        path = Path(job.folder) / name
        path.write_text(job.model_dump_json())
        paths.append(str(path))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world_size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, "-m", "tests.support.rank_program", *paths], env=environment, capture_output=True, text=True, timeout=400
    )
    assert ended.returncode == 0, ended.stderr[-4000:]


@dataclass(frozen=True)
class Ended:
    """What a run has left."""

    rows: list[dict]
    checkpoint: Checkpoint
    weights: dict[str, torch.Tensor]


def ended(job: TrainJob, store: LocalStore) -> Ended:
    result = TrainResult.model_validate_json((Path(job.folder) / "job.result").read_bytes())
    checkpoint = load(result.manifest, Checkpoint)
    model, _ = load_model(store, checkpoint, Path(job.folder) / "loaded")
    rows = pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).to_pylist()
    return Ended(rows, checkpoint, model.state_dict())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, int], Ended]:
    root = tmp_path_factory.mktemp("ranks")
    store, data, _ = small_mix(root)

    def job(name: str, world_size: int, config: RunConfig) -> TrainJob:
        return job_of(config, store, data, root / f"{name}-{world_size}", f"{name}-{world_size}")

    one = {name: job(name, 1, config) for name, config in CASES.items()}
    two = {name: job(name, 2, config) for name, config in {**CASES, **SPREAD}.items()}
    cut = {f"{name}-cut": job(f"{name}-cut", 2, SPREAD[name]) for name in CUT}
    run_here(list(one.values()))
    run_all([*two.values(), *cut.values()], 2, list(cut.values()))
    found = {(name, 1): ended(job, store) for name, job in one.items()}
    return found | {(name, 2): ended(job, store) for name, job in {**two, **cut}.items()}


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one(runs, name):
    one, two = runs[name, 1].rows, runs[name, 2].rows
    assert (runs[name, 1].checkpoint.world_size, runs[name, 2].checkpoint.world_size) == (1, 2)
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert {key for key in left if left[key] is None} == {key for key in right if right[key] is None}
        for key in ("tokens", "positions", "images"):
            assert left[key] == right[key]
        for key in [key for key in left if key.startswith("loss") and left[key] is not None]:
            assert right[key] == pytest.approx(left[key], rel=1e-5), (left["step"], key)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("name", [name for name in SPREAD if name != "zero1-experts1"])
def test_zero_stage_and_shared_experts_change_nothing(runs, name):
    """DeepSpeed's own expert layer, where experts are shared, against ours; over 20 steps in float32."""
    reference, found = runs["zero1-experts1", 2], runs[name, 2]
    assert len(found.rows) == 20
    for left, right in zip(reference.rows, found.rows, strict=True):
        for key in ("loss", "router/balance_loss", "router/z_loss", "router/entropy", "grad_norm"):
            assert right[key] == pytest.approx(left[key], rel=1e-5), (left["step"], key)
        assert right["router/load_max"] == left["router/load_max"]
    assert found.checkpoint.num_parameters == reference.checkpoint.num_parameters
    assert found.weights.keys() == reference.weights.keys()
    for key, weight in found.weights.items():
        # Adam makes a step of the rate's size out of a gradient of rounding errors; a wrong expert would be off by its size.
        torch.testing.assert_close(weight, reference.weights[key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CUT)
def test_spread_states_resume_to_the_same_end(runs, name):
    whole, cut = runs[name, 2], runs[f"{name}-cut", 2]
    assert cut.rows == whole.rows
    assert cut.checkpoint.model == whole.checkpoint.model
