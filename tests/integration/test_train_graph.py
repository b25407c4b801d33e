"""All ranks run the same layers, whatever their own batches hold: two ranks (gloo) train like one, and none waits forever."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.support.rank_steps import Case
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
BOTH = ("vision_tower", "connector")
UNEVEN = ("unlabelled", "padding", "image", "images")
"""The first rank has nothing to predict, and no images."""
NAMED = {
    "nothing-frozen": Case(stage=3),
    "tower-and-connector-frozen": Case(stage=3, frozen=BOTH, checkpointing=True),
    "connector-frozen": Case(stage=1, frozen=("connector",)),
    "images-larger-than-tower": Case(stage=3, tower_px=16),
    "a-layer-frozen": Case(stage=3, frozen=(r"vision_tower.*layers\.0", "embed_tokens", "readout"), checkpointing=True),
    "only-connector-trained": Case(stage=2, frozen=("vision_tower", "language_model", "lm_head"), tower_px=16),
    "no-labels": Case(stage=3, sequences=UNEVEN, tied=True),
    "no-images-at-all": Case(stage=3, sequences=("text",) * 4, images=False),
    "no-images-nothing-to-train": Case(stage=2, sequences=("text",) * 4, images=False, frozen=BOTH),
    "experts-without-tokens": Case(stage=2, moe=True, single_experts=True, frozen=("mlp.gate",)),
    "shared-experts-without-tokens": Case(stage=1, moe=True, expert_parallel=2, single_experts=True, frozen=("mlp.gate",)),
    "shared-experts-no-labels": Case(stage=3, moe=True, expert_parallel=2, sequences=UNEVEN, frozen=BOTH, tower_px=16),
    "shared-experts-frozen": Case(stage=3, moe=True, expert_parallel=2, frozen=("experts", "connector")),
}
PATTERNS = ("vision_tower", "connector", "embeddings", r"layers\.0", "norm", "self_attn", "embed_tokens")
SAMPLES = 8


def sampled(seed: int) -> Case:
    """A random combination; the same for the same seed."""
    choose = random.Random(seed)
    kinds = ("image", "images", "text", "text", "unlabelled", "padding")
    stage, moe = choose.choice((0, 1, 2, 3)), choose.random() < 0.5
    return Case(
        sequences=tuple(choose.choices(kinds, k=4)),
        frozen=tuple(choose.sample(PATTERNS, choose.choice((0, 1, 2, 3)))),
        stage=stage,
        tower_px=choose.choice((16, 32)),
        moe=moe,
        expert_parallel=choose.choice((1, 2)) if moe and stage else 1,
        single_experts=moe and choose.random() < 0.3,
        checkpointing=choose.random() < 0.4,
        tied=choose.random() < 0.3,
        vision=choose.choice(("clip", "siglip")),
        connector=choose.choice(("c_abstractor", "attention_pool", "average_pool")),
    )


CASES = NAMED | {f"sample-{seed}": sampled(seed) for seed in range(SAMPLES)}


def train(python: WarmPython, folder: Path, processes: int, cases: list[Case]) -> tuple[str, list[Case]]:
    """Train cases in ranks that torchrun starts once; their errors, and the cases that were finished."""
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    launcher = ("--standalone", "--nproc_per_node", str(processes), "-m", "tests.support.rank_steps")
    paths = [str(folder / name) for name in ("cases.json", "results.jsonl")]
    done = python.run("torch.distributed.run", *launcher, *paths, timeout=400)
    lines = (folder / "results.jsonl").read_text().splitlines()
    return "" if done.returncode == 0 else done.stderr[-20_000:], [Case(**json.loads(line)) for line in lines]


@pytest.fixture(scope="module")
def trained(made_once, warm_python) -> tuple[list[Case], list[Case]]:
    """All cases on one rank, and on two."""

    def train_all(root: Path) -> None:
        for processes in (1, 2):
            errors, _ = train(warm_python, root / str(processes), processes, list(CASES.values()))
            assert not errors, errors

    root = made_once("graph", train_all)
    one, two = ((root / str(processes) / "results.jsonl").read_text().splitlines() for processes in (1, 2))
    return [Case(**json.loads(line)) for line in one], [Case(**json.loads(line)) for line in two]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one_whatever_their_batches_hold(trained, name):
    one, two = (cases[list(CASES).index(name)] for cases in trained)
    assert len(two.losses) == 2
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    assert two.norms == pytest.approx(one.norms, rel=1e-3)


@pytest.mark.parametrize("case", ["tower-and-connector-frozen", "connector-frozen"])
def test_a_rank_that_leaves_a_layer_out_is_named_with_its_collective(warm_python, tmp_path, case):
    """What the other tests would show: without the blank image, the ranks do different collectives."""
    errors, finished = train(warm_python, tmp_path / "ranks", 2, [replace(NAMED[case], blank=False)])
    assert not finished
    assert "Detected mismatch between collectives" in errors or "Timed out" in errors
    assert "OpType=" in errors
