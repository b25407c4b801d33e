"""Experts of a sparse layer without expert parallelism: each expert is one product over the rows routed to it.

Registered as `mm1_sorted` in the experts interface of transformers, so any decoder whose experts use that interface
can use it:

    hidden_TD, chosen_TK -> rows sorted by expert (R, D) -> gate and up -> activation -> down -> rows in original order
        -> weighted sum over the K rows of each token (T, D)

Differences from transformers' own `grouped_mm`:
    - Rows are moved by a permutation whose backward is the inverse permutation: no scatter-add at repeated indices, so
      gradients are deterministic on every device.
    - It respects autocast; torch's grouped product ignores it, and would compute in single precision.
    - Dtypes and widths that the grouped product does not support (float64, rows that are not a multiple of 16 bytes)
      are computed expert by expert.

The cost depends on the number of rows, not on their distribution: an unbalanced router is not slower.

Names of dimensions:
    T tokens, K experts of a token, R = T * K rows, X experts, D width of the decoder, I, O input and output width of
    a product
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.integrations.moe import ExpertsInterface, grouped_mm_experts_forward

SORTED_EXPERTS = "mm1_sorted"

_GROUPED_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_GROUPED_STRIDE = 16  # bytes


def sorted_experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Experts function `mm1_sorted` of the transformers interface.

    Args:
        module: the experts: `gate_up_proj` (X, 2F, D) and `down_proj` (X, D, F), F the width of an expert. Experts with
            biases, without a gate, with transposed weights, with a norm, or distributed over processes by transformers
            use transformers' own grouped products.
        hidden_states: (T, D).
        top_k_index: (T, K) experts of each token.
        top_k_weights: (T, K) their weights.

    Returns:
        (T, D), with the dtype of hidden_states.
    """
    unusual = (module.has_bias, module.is_transposed, module.has_post_expert_norm, module._is_expert_parallel)
    if any(unusual) or not module.has_gate:
        return grouped_mm_experts_forward(module, hidden_states, top_k_index, top_k_weights)
    sorted_R, order_R = top_k_index.flatten().sort(stable=True)
    inverse_R = order_R.argsort()
    experts_X = torch.arange(module.num_experts, device=sorted_R.device)
    ends_X = torch.searchsorted(sorted_R, experts_X, right=True, out_int32=True)

    rows_RD = _Permuted.apply(hidden_states, order_R, inverse_R, top_k_index.shape[1])
    gated_RF = module._apply_gate(_product(rows_RD, module.gate_up_proj, ends_X))
    rows_RD = _Permuted.apply(_product(gated_RF, module.down_proj, ends_X), inverse_R, order_R, 1)
    weighted_TKD = rows_RD.unflatten(0, top_k_index.shape) * top_k_weights[..., None]
    return weighted_TKD.sum(dim=1).to(hidden_states.dtype)


class _Permuted(torch.autograd.Function):
    """Permute rows; with `copies`, repeat each row that many times before."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, order_R: torch.Tensor, inverse_R: torch.Tensor, copies: int) -> torch.Tensor:
        ctx.save_for_backward(inverse_R)
        ctx.copies = copies
        return rows.index_select(0, order_R if copies == 1 else order_R // copies)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (inverse_R,) = ctx.saved_tensors
        gradient = gradients[0].index_select(0, inverse_R)
        if ctx.copies > 1:
            gradient = gradient.unflatten(0, (-1, ctx.copies)).sum(dim=1)
        return gradient, None, None, None


def _product(rows_RI: torch.Tensor, weight_XOI: nn.Parameter, ends_X: torch.Tensor) -> torch.Tensor:
    """Multiply the rows of each expert by its weight: (R, O), where expert x has the rows ends_X[x - 1] to ends_X[x]."""
    device = rows_RI.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_XOI.dtype
    rows_RI, weight = rows_RI.to(dtype), weight_XOI.to(dtype)
    if _is_grouped(weight):
        return F.grouped_mm(rows_RI, weight.transpose(1, 2), offs=ends_X)
    lengths = ends_X.diff(prepend=ends_X.new_zeros(1)).tolist()
    # `unbind` rather than an index: the backward of an index fills a full-size tensor for each expert.
    return torch.cat([F.linear(*pair) for pair in zip(rows_RI.split(lengths), weight.unbind(), strict=True)])


def _is_grouped(weight_XOI: torch.Tensor) -> bool:
    if weight_XOI.is_cuda and torch.cuda.get_device_capability(weight_XOI.device) < (8, 0):
        return False
    strides = (width * weight_XOI.element_size() for width in weight_XOI.shape[1:])
    return weight_XOI.dtype in _GROUPED_TYPES and not any(stride % _GROUPED_STRIDE for stride in strides)


ExpertsInterface.register(SORTED_EXPERTS, sorted_experts_forward)
