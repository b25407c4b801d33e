"""Sums over the names and shapes of a model's parameters."""

from __future__ import annotations

import math
import re

from torch import nn

from mm1.train.config import PARTS

Shapes = dict[str, tuple[int, ...]]

EXPERTS = ".mlp.experts."
BLOCK = re.compile(r"^(.*\.layers\.\d+)\.")
"""Prefix of the parameters of one block of the tower or the decoder."""


def parameter_shapes(model: nn.Module) -> Shapes:
    """Return names and shapes of all parameters; a tied output layer does not count again."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def trained_shapes(model: nn.Module) -> Shapes:
    """Return names and shapes of the parameters that are trained."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters() if parameter.requires_grad}


def backward_shapes(shapes: Shapes, trained: Shapes) -> Shapes:
    """Return the parameters of the parts that have a backward pass: the first trained part, and those after it.

    Args:
        shapes: all parameters.
        trained: those that are trained.
    """
    patterns = [re.compile(pattern) for pattern in PARTS.values()]  # in the order of the forward pass
    first = next(number for number, pattern in enumerate(patterns) if any(map(pattern.search, trained)))
    return {name: shape for name, shape in shapes.items() if any(pattern.search(name) for pattern in patterns[first:])}


def num_parameters(shapes: Shapes) -> int:
    """Count the parameters."""
    return sum(map(math.prod, shapes.values()))


def num_experts_parameters(shapes: Shapes) -> int:
    """Count the parameters in experts."""
    return sum(math.prod(shape) for name, shape in shapes.items() if EXPERTS in name)


def num_sparse_layers(shapes: Shapes) -> int:
    """Count the layers with experts."""
    return len({name.partition(EXPERTS)[0] for name in shapes if EXPERTS in name})


def largest_block(numels: dict[str, int]) -> int:
    """Count the parameters of the largest block.

    Args:
        numels: number of elements of each parameter by name.
    """
    blocks: dict[str, int] = {}
    for name, numel in numels.items():
        if match := BLOCK.match(name):
            blocks[match[1]] = blocks.get(match[1], 0) + numel
    return max(blocks.values())
