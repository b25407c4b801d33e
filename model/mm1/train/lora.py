"""LoRA in training: from the section ``train.lora`` to a model with adapters.

A run starts from the model of ``init`` with fresh adapters, or with those of ``init`` if it has the same kind. A run without
adapters merges those of ``init`` first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from mm1.checkpoint.adapters import attach, is_adapted
from mm1.errors import ConfigurationError
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import PARTS, LoraConfig

if TYPE_CHECKING:
    import peft

ALL = "all-linear"
MODULES = {"vision": "vision_tower", "connector": "connector"}
"""Name of a part -> its module, as peft's modules_to_save names it."""


def with_adapters(model: MM1ForConditionalGeneration, config: LoraConfig, seed: int) -> MM1ForConditionalGeneration:
    """Give a model the adapters of a run, unless it has them already.

    Args:
        model: model of `init`, changed in place.
        config: section ``train.lora``; rank 0 changes nothing.
        seed: seed of the fresh adapters.

    Raises:
        ConfigurationError: no layer matches, or the model has other adapters.
    """
    if not config.rank:
        return model
    if is_adapted(model):
        _check_same(model, config)
        return model
    torch.manual_seed(seed)
    return attach(model, peft_config(model, config)).train()


def peft_config(model: nn.Module, config: LoraConfig) -> peft.LoraConfig:
    """Return a section as peft's configuration, which names the adapted layers of this model.

    Raises:
        ConfigurationError: no linear layer of the parts matches.
    """
    from peft import LoraConfig as PeftConfig

    return PeftConfig(
        r=config.rank,
        lora_alpha=_alpha(config),
        lora_dropout=config.dropout,
        target_modules=target_modules(model, config),
        modules_to_save=[MODULES[part] for part in config.trained] or None,
        bias="none",
    )


def target_modules(model: nn.Module, config: LoraConfig) -> list[str]:
    """List the layers with an adapter.

    Raises:
        ConfigurationError: none matches.
    """
    patterns = [re.compile(PARTS[part]) for part in config.parts]
    linear = [name for name, module in model.named_modules() if type(module) in (nn.Linear, Conv1D) and name != "lm_head"]
    candidates = [name for name in linear if any(pattern.search(name) for pattern in patterns)]
    ends = tuple(f".{target}" for target in config.targets)
    names = candidates if config.targets == (ALL,) else [name for name in candidates if name.endswith(ends)]
    if not names:
        known = sorted({name.rpartition(".")[2] for name in candidates})
        raise ConfigurationError(
            f"train.lora.targets={[*config.targets]}: no linear layer of {', '.join(config.parts)} has such a name; expected "
            f"{ALL} or some of {', '.join(known) or 'none'}"
        )
    return names


def _alpha(config: LoraConfig) -> int:
    return config.alpha or 2 * config.rank


def _check_same(model: MM1ForConditionalGeneration, config: LoraConfig) -> None:
    own = model.peft_config["default"]
    expected = {"r": config.rank, "lora_alpha": _alpha(config), "lora_dropout": config.dropout}
    for name, value in expected.items():
        if getattr(own, name) != value:
            raise ConfigurationError(
                f"train.lora: init has adapters with {name}={getattr(own, name)}, and this run asks for {value}: set the same, "
                "or start from the checkpoint without adapters"
            )
