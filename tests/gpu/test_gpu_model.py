"""The model on a GPU: kernels that exist only there against the definition, half precision against single."""

import pytest

ROWS = [
    [1, 333, 129, 500, 61],
    [2, 1000, 22],
]  # odd lengths, single tokens, and a row that nothing is left of
PADDED = [[700, 301], [5, 3]]  # the second row is almost all padding
HEADS = [(4, 4), (8, 2), (8, 1)]


@pytest.mark.parametrize("window", [None, 100, 5000])
@pytest.mark.parametrize("rows", [ROWS, PADDED], ids=["full", "padded"])
@pytest.mark.parametrize("heads", HEADS)
def test_variable_length_attention_is_that_of_each_document(checks, heads, rows, window):
    import torch

    checks.check_attention("cuda", torch.bfloat16, rows, heads, head_size=128, window=window)


@pytest.mark.parametrize("heads", HEADS)
def test_attention_in_single_precision(checks, heads):
    import torch

    checks.check_attention("cuda", torch.float32, PADDED, heads, head_size=64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tokens", [1, 7, 4096])
def test_sorted_experts_are_the_plain_loop(checks, tokens, dtype):
    import torch

    checks.check_experts("cuda", getattr(torch, dtype), tokens, width=256, num_experts=16)


@pytest.mark.parametrize("moe", [False, True], ids=["dense", "experts"])
def test_bfloat16_is_near_float32(checks, moe):
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "head_dim": 64, "intermediate_size": 512}
    checks.check_bfloat16("cuda", [[150, 61, 40], [200, 33]], moe, **sizes)
