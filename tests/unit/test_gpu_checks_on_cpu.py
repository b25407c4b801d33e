"""The checks of the GPU tier at small size on the CPU: their lines run everywhere, only the device is another."""

import pytest
import torch

from mm1.modeling import attention
from mm1.modeling.attention import PackedLayout
from tests.bench import bench_gpu
from tests.support import gpu_checks
from tests.support.synthetic import SHRUNK, small_family, synthetic_batch, training_step, work_of
from tests.support.tiny_model import packed_batch

ROWS = [[1, 11, 9], [2, 15]]  # the second row ends in padding
CPU = "cpu"
# A check that moves models to where this machine answers is another check where that is a GPU.
trains_on_the_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="training is on the GPU here: make test-gpu")
answers_on_the_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="answers come from the GPU here: make test-gpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("window", [None, 4, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(dtype, window):
    gpu_checks.check_attention(CPU, dtype, ROWS, window=window)


def test_the_check_of_attention_can_fail(monkeypatch):
    monkeypatch.setattr(PackedLayout, "prefers_documents", lambda *args: False)
    monkeypatch.setattr(PackedLayout, "bias", lambda self, dtype, window=None: None)
    with pytest.raises(AssertionError):
        gpu_checks.check_attention(CPU, torch.float32, ROWS)


@pytest.mark.parametrize("window", [None, 4])
def test_variable_length_attention_is_called_as_this_torch_wants_it(window):
    """Without its kernels there are no numbers, but shapes, types and the way of gradients are checked."""
    layout = PackedLayout(packed_batch(ROWS, images=False)["document_ids"])
    query, key, value = (torch.empty(2, heads, 21, 16, device="meta", requires_grad=True) for heads in (4, 2, 2))
    output = attention._attend_varlen(query, key, value, layout, None, window)
    assert output.shape == (2, 21, 4, 16)
    output.sum().backward()
    assert (query.grad.shape, key.grad.shape) == (query.shape, key.shape)


@pytest.mark.parametrize("tokens", [1, 20])
def test_experts(tokens):
    gpu_checks.check_experts(CPU, torch.float32, tokens, width=16, num_experts=5)


@pytest.mark.parametrize("moe", [False, True])
def test_bfloat16(moe):
    gpu_checks.check_bfloat16(CPU, ROWS, moe)


@trains_on_the_cpu
@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("mm1_1b", ()),
        ("mm1_3b_moe", ("model.decoder.num_experts=4", "train.zero_stage=2")),
        ("mm1_30b", ("train.zero_stage=3",)),
        ("mm1_1b", ("train.zero_stage=0", "optim.name=adafactor")),
    ],
)
def test_training(recipe, overrides):
    config = small_family(recipe, "optim.lr=1e-3", *overrides)
    result = gpu_checks.check_training(config, CPU, documents=3, steps=3)
    assert (result.tokens, result.images) == (2 * 64, 2 * 3)


@trains_on_the_cpu
def test_the_work_of_a_synthetic_batch_is_what_a_step_sees():
    config = small_family("mm1_1b")
    step = training_step(config, CPU)
    batch = synthetic_batch(step.engine.model.config, config.sequence, 1, documents=2)
    work = work_of(batch, documents=2, sequence=config.sequence)
    result = step([dict(batch), dict(batch)], rate_factor=1.0)
    assert (result.predicted_tokens, result.images) == (2 * work.predicted, 2 * work.images)
    assert (result.tokens, work.pairs) == (2 * work.tokens, 2 * 32 * 33 // 2)


@trains_on_the_cpu
def test_the_bench_counts_tokens_and_arithmetic():
    one = bench_gpu.measure("mm1_1b", (*SHRUNK, "train.global_batch=1"), CPU, warm_up=0, steps=1)
    two = bench_gpu.measure("mm1_1b", (*SHRUNK, "train.global_batch=2"), CPU, warm_up=0, steps=1)
    assert (one.tokens, two.tokens) == (64, 128)
    assert two.flops == 2 * one.flops > 0 and one.seconds > 0


@answers_on_the_cpu
def test_generation():
    gpu_checks.check_generation(CPU)


@answers_on_the_cpu
def test_evaluation(tmp_path):
    gpu_checks.check_evaluation(tmp_path)


@answers_on_the_cpu
def test_serving():
    gpu_checks.check_serving()
