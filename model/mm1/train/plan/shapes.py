"""Sums over the names and shapes of a model's parameters."""

from __future__ import annotations

import math
import re

from torch import nn

Shapes = dict[str, tuple[int, ...]]

EXPERTS = ".mlp.experts."
BLOCK = re.compile(r"^(.*\.layers\.\d+)\.")
"""What belongs to one block of the tower or the decoder."""


def parameter_shapes(model: nn.Module) -> Shapes:
    """All parameters; a tied output layer is no parameter of its own."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def num_parameters(shapes: Shapes) -> int:
    """Their number."""
    return sum(map(math.prod, shapes.values()))


def num_experts_parameters(shapes: Shapes) -> int:
    """Those in experts."""
    return sum(math.prod(shape) for name, shape in shapes.items() if EXPERTS in name)


def num_sparse_layers(shapes: Shapes) -> int:
    """Layers that have experts."""
    return len({name.partition(EXPERTS)[0] for name in shapes if EXPERTS in name})


def largest_block(numels: dict[str, int]) -> int:
    """Parameters of the largest block, from the number of each name."""
    blocks: dict[str, int] = {}
    for name, numel in numels.items():
        if found := BLOCK.match(name):
            blocks[found[1]] = blocks.get(found[1], 0) + numel
    return max(blocks.values())
