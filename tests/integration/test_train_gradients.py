"""Engines on two processes (gloo): the dtype in which gradients are summed, skipped steps, Adafactor on partitions."""

import json

import pytest
import torch

from tests.support.engine_program import ADAFACTOR, LAYOUTS

pytestmark = pytest.mark.integration
SHAPES = [(layout, accumulation) for layout in LAYOUTS for accumulation in (1, 2) if layout != "zero0"]


@pytest.fixture(scope="module")
def root(made_once, warm_python):
    """Folder with the files of the ranks."""

    def run(folder):
        launcher = ("--standalone", "--nproc_per_node", "2", "-m", "tests.support.engine_program")
        done = warm_python.run("torch.distributed.run", *launcher, str(folder), timeout=400)
        assert done.returncode == 0, done.stderr[-4000:]

    return made_once("engines", run)


@pytest.fixture(scope="module")
def seen(root):
    """What each rank has seen."""
    return [json.loads((root / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("layout", "accumulation"), SHAPES)
def test_gradients_of_a_bfloat16_run_are_summed_in_float32(seen, layout, accumulation):
    for rank in seen:
        result = rank[f"reduced {layout} accumulation{accumulation}"]
        assert result["sent"]["float32"] >= result["parameters"]
        assert "bfloat16" not in result["sent"]


def test_the_dtype_of_the_sum_can_be_chosen(seen):
    result = seen[0]["reduced in bfloat16"]
    assert result["sent"]["bfloat16"] >= result["parameters"]
    assert result["sent"].get("float32", 0) < 10  # norms


def test_the_norm_is_the_same_at_every_stage_on_every_rank(seen):
    for layouts in (("zero0", "zero1", "zero2", "zero3"), ("zero1-experts", "zero2-experts", "zero3-experts")):
        norms = [rank[f"skipped {name} float32"]["norms"] for name in layouts for rank in seen]
        for other in norms[1:]:
            assert other == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{layout} {dtype}" for layout in LAYOUTS for dtype in ("float32", "bfloat16")),
        *(f"zero{stage} offload" for stage in (1, 2, 3)),
        *(f"zero{stage} {name}" for stage in (0, 1, 2) for name in ("muon", "adafactor")),
    ],
)
def test_a_skipped_step_leaves_no_trace(seen, name):
    for rank in seen:
        result = rank[f"skipped {name}"]
        assert result["poisoned norm"] > 100 * max(result["norms"])
        assert result["unchanged"], "weights and optimizer state, bit by bit"
        assert result["changed"], "by the step after it"
        assert result["as without it"]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        *((f"zero{stage} {kind}", f"zero0 {kind}") for stage in (1, 2, 3) for kind in ADAFACTOR),
        *((f"zero{stage} offload", "zero0 plain") for stage in (2, 3)),
        ("zero2 bfloat16", "zero1 bfloat16"),
    ],
)
def test_adafactor_on_partitions_is_adafactor_on_whole_parameters(root, name, like):
    weights, expected = (torch.load(root / f"{file}.pt") for file in (name, like))
    assert weights.keys() == expected.keys()
    for key, weight in weights.items():
        if "k_proj.bias" not in key:  # whose gradient is zero except for rounding, of which Adafactor makes a whole update
            assert (weight.float() - expected[key].float()).abs().mean() < 1e-6, key


def test_ranks_drop_different_elements(seen):
    kept = [elements for rank in seen for elements in rank["dropout"]]
    assert len(set(kept)) == 4
