"""Two processes (gloo) against one: same batches, same losses."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mm1.manifests import Checkpoint, load
from mm1.train.build import build_run
from mm1.train.config import TrainJob, TrainResult
from tests.support.tiny_runs import job_of, one_process, small_mix, small_run

pytestmark = pytest.mark.integration
CASES = {
    "dense": small_run("mm1_tiny"),
    "moe": small_run("mm1_tiny_moe"),
    "zero": small_run("mm1_tiny", "train.zero_stage=2", "optim.name=adamw"),
}


def run_here(jobs: list[TrainJob]) -> None:
    """In this process, to spare the start of another."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    one_process()
    for job in jobs:
        result = build_run(job, 0, 1).go()
        (Path(job.folder) / "job.result").write_text(result.model_dump_json())
    for number, handler in former.items():
        signal.signal(number, handler)


def run_all(jobs: list[TrainJob], world_size: int) -> None:
    paths = []
    for job in jobs:
        path = Path(job.folder) / "job.json"
        path.write_text(job.model_dump_json())
        paths.append(str(path))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world_size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, "-m", "tests.support.rank_program", *paths], env=environment, capture_output=True, text=True, timeout=400
    )
    assert ended.returncode == 0, ended.stderr[-4000:]


@pytest.fixture(scope="module")
def losses(tmp_path_factory) -> dict[tuple[str, int], list[dict]]:
    root = tmp_path_factory.mktemp("ranks")
    store, data, _ = small_mix(root)
    found = {}
    for world_size in (1, 2):
        jobs = {
            name: job_of(config, store, data, root / f"{name}{world_size}", f"{name}{world_size}")
            for name, config in CASES.items()
        }
        if world_size == 1:
            run_here(list(jobs.values()))
        else:
            run_all(list(jobs.values()), world_size)
        for name, job in jobs.items():
            result = TrainResult.model_validate_json((Path(job.folder) / "job.result").read_bytes())
            checkpoint = load(result.manifest, Checkpoint)
            assert checkpoint.world_size == world_size
            found[name, world_size] = pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).to_pylist()
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one(losses, name):
    one, two = losses[name, 1], losses[name, 2]
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert {key for key in left if left[key] is None} == {key for key in right if right[key] is None}
        for key in ("tokens", "positions", "images"):
            assert left[key] == right[key]
        for key in [key for key in left if key.startswith("loss") and left[key] is not None]:
            assert right[key] == pytest.approx(left[key], rel=1e-5), (left["step"], key)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-3)
