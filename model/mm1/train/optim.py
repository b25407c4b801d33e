"""Parameter groups with their learning rates and weight decays.

    model, OptimConfig -> parameter_groups -> [matrices for Muon by width] + [decayed] + [not decayed: norms, biases],
        split further by parts with their own learning rates, and by experts that processes share

Muon orthogonalises the update of a matrix; it trains the matrices of transformer blocks and connector. AdamW trains the
embeddings, the output layer and the routers. DeepSpeed's Muon scales the orthogonal update O of a (rows, columns) matrix
by sqrt(max(1, rows / columns)), while the recipes' learning rates are for updates of AdamW's size,
0.2 sqrt(max(rows, columns)) O (arXiv 2502.16982). The two differ by 0.2 sqrt(columns) for any number of rows, so one group
per number of columns, with its learning rate multiplied and its decay divided by that factor, gives exactly the second rule.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, NamedTuple

from torch import nn

from mm1.errors import ConfigurationError
from mm1.train.config import PARTS, OptimConfig, frozen_pattern
from mm1.train.muon import ROUTER, takes_muon

MATCH_ADAMW = 0.2  # root mean square of AdamW's updates, arXiv 2502.16982


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Exclude parameters from training; those that are excluded already stay so.

    Args:
        model: its parameters' ``requires_grad`` is set.
        patterns: parts of the model, or regular expressions to search for in parameter names.

    Raises:
        ConfigurationError: a pattern is not a regular expression or matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    expected = f"expected {', '.join(PARTS)}, or a regular expression for names such as {next(iter(parameters), '')!r}"
    for pattern in patterns:
        try:
            matching = [name for name in parameters if frozen_pattern(pattern).search(name)]
        except re.error as error:
            raise ConfigurationError(f"train.frozen: {pattern!r} is not a regular expression: {error}") from None
        if not matching:
            raise ConfigurationError(f"train.frozen: no parameter name matches {pattern!r}; {expected}")
        if len(matching) == len(parameters):
            raise ConfigurationError(f"train.frozen: {pattern!r} matches every parameter: nothing is left to train; {expected}")
        for name in matching:
            parameters[name].requires_grad = False
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigurationError(f"train.frozen={[*patterns]} excludes every parameter: nothing is left to train")


def takes_decay(parameter: nn.Parameter) -> bool:
    """Whether weights are decayed: matrices and kernels, not norms and biases."""
    return parameter.ndim >= 2


def parameter_groups(model: nn.Module, config: OptimConfig, lr: float) -> list[dict[str, Any]]:
    """Sort the trainable parameters into groups.

    Args:
        model: parameters that do not require gradients are skipped.
        config: optimizer.
        lr: peak learning rate.

    Returns:
        Groups in a fixed order with ``params``, ``names``, ``peak_lr``, ``lr``, ``weight_decay``, ``use_muon`` and the other
        settings of the optimizer; each parameter carries ``use_muon`` too, and stacked experts ``is_expert_group``. Experts
        that processes share have their own groups, marked for DeepSpeed.
    """
    members: dict[_Kind, list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        use_muon = config.name == "muon" and takes_muon(name, parameter.shape)
        parameter.use_muon = use_muon  # type: ignore[attr-defined]  # DeepSpeed reads the mark
        if use_muon:
            parameter.is_expert_group = parameter.ndim == 3  # type: ignore[attr-defined]
        kind = _Kind(
            order=0 if use_muon else 1 if takes_decay(parameter) else 2,
            columns=parameter.shape[-1] if use_muon else 0,
            lr_factor=_lr_factor(name, config),
            expert_group="" if getattr(parameter, "allreduce", True) else str(getattr(parameter, "group_name", "")),
        )
        members[kind].append((name, parameter))
    return [_group(kind, members[kind], config, lr) for kind in sorted(members)]


class _Kind(NamedTuple):
    """Common properties of the parameters of a group; sorts the groups."""

    order: int
    """0 Muon, 1 with decay, 2 without."""
    columns: int
    """Columns of Muon's matrices; 0 for AdamW."""
    lr_factor: float
    expert_group: str
    """DeepSpeed's name of the processes that share the experts; empty for parameters that every process has."""


def _lr_factor(name: str, config: OptimConfig) -> float:
    if ".vision_tower." in name:
        return config.vision_lr_factor
    return config.connector_lr_factor if ".connector." in name else config.decoder_lr_factor


def _group(kind: _Kind, members: list[tuple[str, nn.Parameter]], config: OptimConfig, lr: float) -> dict[str, Any]:
    lr, weight_decay = lr * kind.lr_factor, config.weight_decay if kind.order < 2 else 0.0
    settings: dict[str, Any] = {"betas": config.betas, "eps": config.eps, "use_muon": False}
    if kind.order == 0:
        # DeepSpeed sorts the parameters of a Muon group by size; the names must follow (the sort is stable).
        members.sort(key=lambda member: member[1].size(), reverse=True)
        factor = MATCH_ADAMW * kind.columns**0.5
        lr, weight_decay = lr * factor, weight_decay / factor
        settings = {"momentum": config.momentum, "ns_method": "gram", "use_muon": True}
    if kind.expert_group:
        settings |= {"moe": True, "name": kind.expert_group}
    return {
        "params": [parameter for _, parameter in members],
        "names": [name for name, _ in members],
        "lr": lr,
        "peak_lr": lr,
        "weight_decay": weight_decay,
        **settings,
    }


def num_decoder_parameters(model: nn.Module) -> int:
    """Count N of the learning-rate law: non-embedding parameters of the language model (MM1 4).

    For a mixture of experts, count its dense counterpart: one expert of each sparse layer and no router, since MM1 trains both
    with the same hyperparameters (MM1 4).
    """
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(
        parameter[0].numel() if parameter.ndim == 3 else parameter.numel()  # experts are stacked
        for name, parameter in model.named_parameters()
        if "language_model" in name and ".lora_" not in name and parameter not in embeddings and not ROUTER.search(name)
    )
