"""Gathering the whole weights of a model that an engine has partitioned, for a checkpoint.

ZeRO 3 keeps a part of every tensor on each process, expert parallelism some of the experts, and the expert-parallel layer names
its tensors differently from transformers. This module gathers them, one tensor at a time, in the layout of transformers::

    named parameters -> gathered over processes -> renamed, experts joined -> state dict on the CPU of rank 0

Names of dimensions: X experts, F inner width of an expert, D width of the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager

import torch
from torch import distributed as dist
from torch import nn

LOCAL_EXPERTS = re.compile(r"^(?P<layer>.*\.mlp)\.experts\.(?P<matrix>w[123])$")
ROUTER = re.compile(r"^(?P<layer>.*\.mlp)\.router\.gate\.weight$")


def whole_weights(
    model: nn.Module,
    gathered: Callable[[nn.Parameter], AbstractContextManager[None]],
    expert_group: dist.ProcessGroup | None,
    keep: bool,
    names: Container[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Collect all weights on rank 0; every process calls this.

    Args:
        model: with partitioned parameters, or with only this process's experts.
        gathered: context manager that gathers one parameter.
        expert_group: the processes that share the experts; None if each has all of them.
        keep: whether this process keeps the weights (rank 0) or only takes part.
        names: parameters to collect; all by default.

    Returns:
        State dict with transformers' names on the CPU; empty on processes that keep none.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in _gather_each(model, gathered, expert_group, names):
        if keep:
            weights[name] = tensor.detach().cpu().clone()
    return _joined(weights)


def _gather_each(
    model: nn.Module,
    gathered: Callable[[nn.Parameter], AbstractContextManager[None]],
    expert_group: dist.ProcessGroup | None,
    names: Container[str] | None,
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        if names is not None and name not in names:
            continue
        with gathered(parameter):
            whole = parameter.data
            if expert_group is not None and LOCAL_EXPERTS.match(name):
                parts = [torch.empty_like(whole) for _ in range(dist.get_world_size(expert_group))]
                dist.all_gather(parts, whole.contiguous(), group=expert_group)
                whole = torch.cat(parts)
            yield name, whole


def _joined(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert names and layouts to those of transformers: w1, w3 (X, F, D) to gate_up_proj (X, 2F, D), w2 to down_proj."""
    joined: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if router := ROUTER.match(name):
            joined[f"{router['layer']}.gate.weight"] = tensor
        elif (experts := LOCAL_EXPERTS.match(name)) is None:
            joined[name] = tensor
        elif experts["matrix"] == "w2":
            joined[f"{experts['layer']}.experts.down_proj"] = tensor
        elif experts["matrix"] == "w1":
            up = weights[name.removesuffix("w1") + "w3"]
            joined[f"{experts['layer']}.experts.gate_up_proj"] = torch.cat([tensor, up], dim=1)
    return joined
