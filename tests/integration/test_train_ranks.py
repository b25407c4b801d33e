"""Two processes (gloo) against one: same batches, same losses; experts shared by two processes against experts on each."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import torch

from mm1.checkpoint.read import load_model
from mm1.config.resolve import resolve
from mm1.manifests import Checkpoint, load
from mm1.store.local import LocalStore
from mm1.train.config import RunConfig, TrainJob, TrainResult
from mm1.train.model_origin import settle_parts
from tests.support.tiny_runs import holding_out, job_of, small_mix, small_run
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
CASES = {
    "dense": small_run("mm1_tiny"),
    "moe": small_run("mm1_tiny_moe"),
    "zero": small_run("mm1_tiny", "train.zero_stage=2", "optim.name=adamw"),
    "clip": small_run("mm1_tiny_clip", "optim.name=adamw", "optim.lr=1e-3"),
    "aim": small_run("mm1_tiny_aim"),
}
EXPERTS = ("optim.name=adamw", "optim.lr=1e-3", "train.steps=8", "train.checkpoint_every=7")
SPREAD = {
    f"zero{stage}-experts{size}": small_run(
        "mm1_tiny_moe", *EXPERTS, f"train.zero_stage={stage}", f"train.expert_parallel={size}"
    )
    for stage in (1, 2, 3)
    for size in (1, 2)
}
MUON = ("train.steps=8", "optim.clip=0")


class Move(NamedTuple):
    """A run that is stopped after its first step on one world and goes on in another way."""

    reference: tuple[str, int]
    """Run that was not stopped, and its processes."""
    before: RunConfig
    processes: int
    after: RunConfig
    processes_after: int


SHORT = ("optim.name=adamw", "optim.lr=1e-3", "train.steps=5", "train.checkpoint_every=4")


def short(stage: int, size: int = 1) -> RunConfig:
    """A short run with experts at a ZeRO stage and an expert-parallel size."""
    return small_run("mm1_tiny_moe", *SHORT, f"train.zero_stage={stage}", f"train.expert_parallel={size}")


def adafactor(stage: int) -> RunConfig:
    """A short run with Adafactor at a ZeRO stage."""
    changes = ("optim.name=adafactor", "optim.lr=1e-3", "optim.first_moment=0.5", f"train.zero_stage={stage}")
    return small_run("mm1_tiny", "train.steps=5", "train.checkpoint_every=4", *changes)


VALIDATED = ("optim.name=adamw", "optim.lr=1e-3", "train.steps=2", "train.validate_every=1", "train.validation_sequences=5")
VALIDATIONS = {
    f"validated-zero{stage}-experts{size}": small_run(
        "mm1_tiny_moe", *VALIDATED, f"train.zero_stage={stage}", f"train.expert_parallel={size}"
    )
    for stage, size in ((0, 1), (2, 2), (3, 1), (3, 2))
}
"""Runs that validate after each step, on one process (the first) and on two."""
WHOLE = {
    "adafactor": adafactor(1),
    "muon": small_run("mm1_tiny", *MUON),
    "short": short(1),
    "short-zero1-experts2": short(1, 2),
    "short-zero3-experts2": short(3, 2),
}
"""Runs on two processes that others are held against."""
MOVES = {
    "same-zero1-experts2": Move(("short-zero1-experts2", 2), short(1, 2), 2, short(1, 2), 2),
    "same-zero3-experts2": Move(("short-zero3-experts2", 2), short(3, 2), 2, short(3, 2), 2),
    "fewer-processes": Move(("short", 2), short(2, 2), 2, short(0), 1),
    "more-processes": Move(("short", 2), short(0), 1, short(3, 2), 2),
    "other-stage": Move(("short", 2), short(3), 2, short(1, 2), 2),
    "muon-spread": Move(("muon", 2), WHOLE["muon"], 1, small_run("mm1_tiny", *MUON, "train.zero_stage=2"), 2),
    "muon-whole": Move(("muon", 2), small_run("mm1_tiny", *MUON, "train.zero_stage=1"), 2, WHOLE["muon"], 1),
    "adafactor-spread": Move(("adafactor", 2), adafactor(0), 1, adafactor(3), 2),
    "adafactor-whole": Move(("adafactor", 2), adafactor(2), 2, adafactor(0), 1),
    "adafactor-same": Move(("adafactor", 2), adafactor(1), 2, adafactor(1), 2),
    "dense-fewer": Move(("dense", 1), CASES["dense"], 2, CASES["dense"], 1),
    "dense-more": Move(("dense", 1), CASES["dense"], 1, CASES["dense"], 2),
    "clip-same": Move(("clip", 2), CASES["clip"], 2, CASES["clip"], 2),
    "clip-spread": Move(("clip", 2), CASES["clip"], 1, resolve(CASES["clip"], ["train.zero_stage=2"]), 2),
    "aim-fewer": Move(("aim", 1), CASES["aim"], 2, CASES["aim"], 1),
}


LORA = {
    f"lora-zero{stage}": small_run(
        "mm1_tiny_sft",
        *("optim.name=adamw", "optim.lr=1e-3", "train.steps=4", "train.lora.rank=4", 'train.lora.trained=["connector"]'),
        f"train.zero_stage={stage}",
    )
    for stage in range(4)
}
"""Adapters on the finished dense case, on one process (the first) and on two."""


def train(python: WarmPython, processes: int, jobs: list[TrainJob], cut: list[TrainJob]) -> None:
    """Do jobs in ranks that torchrun starts once for all of them, after those that are cut after a step."""
    paths = []
    for job, name in [*((job, "job.cut.json") for job in cut), *((job, "job.json") for job in jobs)]:
        path = Path(job.folder) / name
        path.write_text(job.model_dump_json())
        paths.append(str(path))
    launcher = ("--standalone", "--nproc_per_node", str(processes), "-m", "tests.support.rank_program")
    done = python.run("torch.distributed.run", *launcher, *paths, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]


@dataclass(frozen=True)
class Ended:
    """What a run has left."""

    rows: list[dict]
    checkpoint: Checkpoint
    weights: dict[str, torch.Tensor]


def ended(folder: Path, store: LocalStore) -> Ended:
    result = TrainResult.model_validate_json((folder / "job.result").read_bytes())
    checkpoint = load(result.manifest, Checkpoint)
    model, _ = load_model(store, checkpoint, folder / f"loaded-{os.getpid()}")
    rows = pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).to_pylist()
    return Ended(rows, checkpoint, model.state_dict())


@pytest.fixture(scope="module")
def runs(made_once, warm_python) -> dict[tuple[str, int], Ended]:
    """What each run has left, by name and number of processes."""

    def train_all(root: Path) -> None:
        store, data, mix = small_mix(root)
        held_out, _ = holding_out(store, mix, "0.3")

        def jobs(configs: dict[str, RunConfig]) -> list[TrainJob]:
            return [job_of(config, store, data, root / name, name) for name, config in configs.items()]

        def moved(end: str, processes: int) -> list[TrainJob]:
            moves = MOVES.items()
            if end == "before":
                return jobs({f"{name}-moved": move.before for name, move in moves if move.processes == processes})
            return jobs({f"{name}-moved": move.after for name, move in moves if move.processes_after == processes})

        def validations(processes: int, *names: str) -> list[TrainJob]:
            names = [f"{name}-{processes}" for name in names]
            return [job_of(VALIDATIONS[name.rpartition("-")[0]], store, held_out, root / name, name) for name in names]

        def adapted(processes: int, *names: str) -> list[TrainJob]:
            result = TrainResult.model_validate_json((root / "dense-1" / "job.result").read_bytes())
            made = []
            for name in names:
                job = job_of(CASES["dense"], store, data, root / f"{name}-{processes}", f"{name}-{processes}")
                config = settle_parts(LORA[name], "pretrain", "", "")
                made.append(job.model_copy(update={"config": config, "init": result.manifest}))
            return made

        alone = jobs({f"{name}-1": config for name, config in CASES.items()})
        together = jobs({f"{name}-2": config for name, config in {**CASES, **SPREAD, **WHOLE}.items()})
        train(warm_python, 1, [*alone, *validations(1, next(iter(VALIDATIONS)))], cut=moved("before", 1))
        train(
            warm_python,
            2,
            [*together, *validations(2, *VALIDATIONS), *moved("after", 2), *adapted(2, *LORA)],
            cut=moved("before", 2),
        )
        train(warm_python, 1, [*moved("after", 1), *adapted(1, next(iter(LORA)))], cut=[])

    root = made_once("ranks", train_all)
    folders = {(name, 1): f"{name}-1" for name in CASES} | {
        (name, 2): f"{name}-2" for name in (*CASES, *SPREAD, *WHOLE, *VALIDATIONS)
    }
    folders[next(iter(VALIDATIONS)), 1] = f"{next(iter(VALIDATIONS))}-1"
    folders |= {(name, 2): f"{name}-2" for name in LORA} | {(next(iter(LORA)), 1): f"{next(iter(LORA))}-1"}
    folders |= {(name, move.processes_after): f"{name}-moved" for name, move in MOVES.items()}
    return {key: ended(root / folder, LocalStore(root / "store")) for key, folder in folders.items()}


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one(runs, name):
    one, two = runs[name, 1].rows, runs[name, 2].rows
    assert (runs[name, 1].checkpoint.world_size, runs[name, 2].checkpoint.world_size) == (1, 2)
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert {key for key in left if left[key] is None} == {key for key in right if right[key] is None}
        for key in ("tokens", "positions", "images"):
            assert left[key] == right[key]
        assert right.get("retrieval") == left.get("retrieval")
        for key in [key for key in left if key.startswith("loss") and left[key] is not None]:
            assert right[key] == pytest.approx(left[key], rel=1e-5), (left["step"], key)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-3)


def test_the_slowest_rank_is_named_and_tokens_are_those_of_one_rank(runs, made_once):
    root = made_once("ranks", lambda folder: None)
    two, one = (
        [json.loads(line) for line in (root / f"dense-{processes}" / "metrics.jsonl").read_text().splitlines()]
        for processes in (2, 1)
    )
    assert two[-1]["slowest_rank"] in (0, 1) and two[-1]["slowest_rank_slower"] >= 0
    assert "slowest_rank" not in one[-1]
    for left, right in zip(one, two, strict=True):
        tokens = {name: value for name, value in left.items() if name.startswith("tokens/")}
        assert sum(tokens.values()) == left["tokens"] and tokens.items() <= right.items()


@pytest.mark.parametrize("name", VALIDATIONS)
def test_two_ranks_validate_as_one(runs, name):
    one, two = runs[next(iter(VALIDATIONS)), 1].rows, runs[name, 2].rows
    names = {f"validation/{source}" for source in ("captions", "interleaved", "text")}
    for left, right in zip(one, two, strict=True):
        assert names <= left.keys()
        assert {key: right[key] for key in names} == pytest.approx({key: left[key] for key in names}, rel=2e-5)


@pytest.mark.parametrize("name", [name for name in SPREAD if name != "zero1-experts1"])
def test_zero_stage_and_shared_experts_change_nothing(runs, name):
    """DeepSpeed's own expert layer, where experts are shared, against ours; over 8 steps in float32."""
    reference, found = runs["zero1-experts1", 2], runs[name, 2]
    assert len(found.rows) == 8
    for left, right in zip(reference.rows, found.rows, strict=True):
        for key in ("loss", "router/balance_loss", "router/z_loss", "router/entropy", "grad_norm"):
            assert right[key] == pytest.approx(left[key], rel=1e-5), (left["step"], key)
        assert right["router/load_max"] == left["router/load_max"]
    assert found.checkpoint.num_parameters == reference.checkpoint.num_parameters
    assert found.weights.keys() == reference.weights.keys()
    for key, weight in found.weights.items():
        # Adam makes a step of the rate's size out of a gradient of rounding errors; a wrong expert would be off by its size.
        torch.testing.assert_close(weight, reference.weights[key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MOVES)
def test_a_run_goes_on_in_another_world(runs, name):
    """The same batches in the same order, and the same losses; on the same world also the same weights, bit by bit."""
    move = MOVES[name]
    whole, moved = runs[move.reference], runs[name, move.processes_after]
    assert moved.checkpoint.world_size == move.processes_after
    for left, right in zip(whole.rows, moved.rows, strict=True):
        for key in ("tokens", "positions", "images"):
            assert right[key] == left[key]
        assert {key for key in left if left[key] is None} == {key for key in right if right[key] is None}
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)
    if (move.before, move.processes) == (move.after, move.processes_after):
        assert moved.rows == whole.rows
        assert moved.checkpoint.model == whole.checkpoint.model


@pytest.mark.parametrize("name", LORA)
def test_adapters_are_the_same_on_two_ranks_at_every_stage(runs, name):
    one, two = runs[next(iter(LORA)), 1], runs[name, 2]
    assert one.weights.keys() == two.weights.keys()
    base = runs["dense", 1].checkpoint.model
    assert two.checkpoint.model["model.safetensors"] == base["model.safetensors"]
    for row, expected in zip(two.rows, one.rows, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for tensor, weight in one.weights.items():
        torch.testing.assert_close(two.weights[tensor], weight, rtol=1e-3, atol=1e-4)
