"""A model without data, for counting its parameters, its FLOPs and its activations.

MM1Config -> empty_model -> the model itself, with tensors that have shapes and take no memory
          -> fold_blocks -> only one of equal blocks remains, so that deep models are counted as quickly as shallow ones
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers.initialization import no_init_weights
from transformers.modeling_layers import GradientCheckpointingLayer

from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration


def empty_model(config: MM1Config, device: str = "meta", dtype: torch.dtype = torch.float32) -> MM1ForConditionalGeneration:
    """Build a model in training mode whose parameters are not initialised.

    Args:
        config: of the model; not changed.
        device: "meta", or any other inside a `FakeTensorMode`.
        dtype: dtype of the weights.
    """
    with torch.device(device), no_init_weights():
        model = MM1ForConditionalGeneration._from_config(copy.deepcopy(config), dtype=dtype)
    model.tie_weights()  # is part of the initialisation
    return model.train()


def fold_blocks(model: nn.Module) -> dict[nn.Module, int]:
    """Keep one block of each kind in every stack of blocks; blocks of the same class and shapes are of the same kind.

    Args:
        model: its stacks become shorter; everything else stays.

    Returns:
        The remaining blocks, and the number of blocks that each of them represents.
    """
    counts: dict[nn.Module, int] = {}
    for stack in list(model.modules()):
        if not isinstance(stack, nn.ModuleList) or not all(isinstance(block, GradientCheckpointingLayer) for block in stack):
            continue
        kinds: dict[tuple[object, ...], nn.Module] = {}
        for block in stack:
            kind = (type(block), *((name, parameter.shape) for name, parameter in block.named_parameters()))
            first = kinds.setdefault(kind, block)
            counts[first] = counts.get(first, 0) + 1
        del stack[:]
        stack.extend(kinds.values())
    return counts
