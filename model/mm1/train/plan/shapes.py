"""Sums over the names and shapes of a model's parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from torch import nn

from mm1.train.config import PARTS, TrainConfig, frozen_pattern
from mm1.train.muon import ROUTER

Shapes = dict[str, tuple[int, ...]]

EXPERTS = ".mlp.experts."
NOT_LINEAR = re.compile(rf"embed|\.wte\.|\.wpe\.|^lm_head|{ROUTER.pattern}")
"""Names of matrices that are no linear layers, and of the output layer, which all-linear leaves out."""
BLOCK = re.compile(r"^(.*\.layers\.\d+)\.")
"""Prefix of the parameters of one block of the tower or the decoder."""


def parameter_shapes(model: nn.Module) -> Shapes:
    """Return names and shapes of all parameters; a tied output layer does not count again."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def trained_shapes(shapes: Shapes, train: TrainConfig) -> tuple[Shapes, Callable[[str], bool]]:
    """Add the adapters of a run to the shapes of its model.

    Args:
        shapes: parameters of the model.
        train: what is frozen, and the adapters.

    Returns:
        All shapes, and whether the parameter of a name is trained.
    """
    frozen, lora = [frozen_pattern(pattern) for pattern in train.frozen], train.lora
    whole = [re.compile(PARTS[part]) for part in (lora.trained if lora.rank else PARTS)]
    parts = [re.compile(PARTS[part]) for part in lora.parts]
    adapters: Shapes = {}
    for name, shape in shapes.items() if lora.rank else ():
        layer, _, kind = name.rpartition(".")
        is_target = lora.targets == ("all-linear",) or layer.endswith(tuple(f".{target}" for target in lora.targets))
        if kind != "weight" or len(shape) != 2 or not is_target or NOT_LINEAR.search(name):
            continue
        if any(part.search(name) for part in parts):
            adapters |= {f"{layer}.lora_A": (lora.rank, shape[1]), f"{layer}.lora_B": (shape[0], lora.rank)}

    def is_trained(name: str) -> bool:
        chosen = name in adapters or any(part.search(name) for part in whole)
        return chosen and not any(pattern.search(name) for pattern in frozen)

    return {**shapes, **adapters}, is_trained


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
