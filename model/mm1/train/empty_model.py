"""A model without data, for counting its parameters, its FLOPs and its activations.

MM1Config, Trained -> empty_model -> the model itself, adapters and frozen parts included, with tensors that take no memory
                   -> fold_blocks -> only one of equal blocks remains, so that deep models are counted as fast as shallow ones
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers.initialization import no_init_weights
from transformers.modeling_layers import GradientCheckpointingLayer

from mm1.checkpoint.adapters import attach
from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import LoraConfig, TrainConfig
from mm1.train.lora import peft_config
from mm1.train.optim import freeze


@dataclass(frozen=True)
class Trained:
    """What a run trains of its model; by default everything."""

    frozen: tuple[str, ...] = ()
    """Section `train`: parts, or regular expressions, that are not trained."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Section `train.lora`: adapters."""

    @classmethod
    def of(cls, train: TrainConfig) -> Trained:
        """Return what a run of this configuration trains."""
        return cls(train.frozen, train.lora)


EVERYTHING = Trained()


def empty_model(
    config: MM1Config, trained: Trained = EVERYTHING, dtype: torch.dtype = torch.float32
) -> MM1ForConditionalGeneration:
    """Build a model in training mode on torch's meta device.

    Args:
        config: of the model; not changed.
        trained: adapters to attach, and parameters that do not require gradients.
        dtype: dtype of the weights.

    Raises:
        ConfigurationError: a name in `trained` matches nothing, or nothing is left to train.
    """
    with torch.device("meta"):
        with no_init_weights():
            model = MM1ForConditionalGeneration._from_config(copy.deepcopy(config), dtype=dtype)
        model.tie_weights()  # is part of the initialisation
        if trained.lora.rank:
            attach(model, peft_config(model, trained.lora))
    freeze(model, trained.frozen)
    return model.train()


def is_trained(*modules: nn.Module) -> bool:
    """Whether any parameter of some modules is trained."""
    return any(parameter.requires_grad for module in modules for parameter in module.parameters())


def fold_blocks(model: nn.Module) -> dict[nn.Module, int]:
    """Keep one block of each kind in every stack of blocks.

    Blocks of the same class, with the same shapes and the same trained parameters, are of the same kind. Blocks below the first
    trained one have no backward pass, so they are of another kind than equal blocks above it.

    Args:
        model: its stacks become shorter; everything else stays.

    Returns:
        The remaining blocks, and the number of blocks that each of them represents.
    """
    counts: dict[nn.Module, int] = {}
    has_frozen = not all(parameter.requires_grad for parameter in model.parameters())
    for stack in list(model.modules()):
        if not isinstance(stack, nn.ModuleList) or not all(isinstance(block, GradientCheckpointingLayer) for block in stack):
            continue
        kinds: dict[tuple[object, ...], nn.Module] = {}
        below_is_trained = False
        for block in stack:
            parameters = [(name, parameter.shape, parameter.requires_grad) for name, parameter in block.named_parameters()]
            first = kinds.setdefault((type(block), has_frozen and below_is_trained, *parameters), block)
            counts[first] = counts.get(first, 0) + 1
            below_is_trained |= is_trained(block)
        del stack[:]
        stack.extend(kinds.values())
    return counts
