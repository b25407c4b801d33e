"""The budget of a level: as many steps of pre-training as the tokens or the arithmetic of the base allow.

Tokens are those of full sequences, FLOPs those of full sequences with as many images as fit, forward and backward, with what
the run trains (:mod:`mm1.train.flops`). Counting FLOPs imports torch, which nothing else here does.
"""

from __future__ import annotations

from typing import Literal

from mm1.config.resolve import validate
from mm1.config.values import parse_integer
from mm1.errors import ConfigurationError
from mm1.studies.chains import Chain, Defaults, run_config
from mm1.studies.config import STAGES
from mm1.train.config import SequenceConfig

STAGE = "pretrain"
SIZES = {
    "length": "sequence_length",
    "max_images": "max_images",
    "image_size_px": "image_size",
    "image_tokens": "image_tokens",
}
"""Field of a sequence -> input of data_mix."""


def with_budget(chain: Chain, base: Chain, same: Literal["steps", "tokens", "flops"], defaults: Defaults) -> Chain:
    """Return a chain whose pre-training has the budget of the base's.

    Args:
        chain: of a level.
        base: the chain without the settings of the level.
        same: what the two have in common.
        defaults: defaults of the steps.

    Raises:
        ConfigurationError: one of them has no stage `pretrain`, a size is unknown, or the level has steps of its own.
    """
    if same == "steps":
        return chain
    for candidate in (chain, base):
        if STAGE not in candidate:
            raise ConfigurationError(f"budget.same: {same} is about the stage {STAGE}, which the chain does not have")
    cost = tokens_per_step if same == "tokens" else flops_per_step
    if steps_of(chain) != steps_of(base):
        raise ConfigurationError(
            f"{STAGE}.overrides: the level sets train.steps, which budget.same: {same} computes: "
            "remove one of them, or give the steps of all levels with budget.same: steps"
        )
    total = steps_of(base) * cost(base, defaults)
    steps = max(1, round(total / cost(chain, defaults)))
    if steps == steps_of(chain):
        return chain
    overrides = f"{chain[STAGE].get('overrides', '')} train.steps={steps}".strip()
    return chain | {STAGE: chain[STAGE] | {"overrides": overrides}}


def steps_of(chain: Chain) -> int:
    """Return the steps of pre-training."""
    return run_config(chain, STAGE).train.steps


def tokens_per_step(chain: Chain, defaults: Defaults) -> int:
    """Return the tokens of a step of full sequences."""
    return _sequence(chain, defaults).length * run_config(chain, STAGE).train.global_batch


def flops_per_step(chain: Chain, defaults: Defaults) -> int:
    """Count the FLOPs of a step of full sequences.

    Raises:
        ConfigurationError: the model is not that of a recipe but of a folder.
    """
    from mm1.train.empty_model import Trained
    from mm1.train.flops import count_flops, full_work
    from mm1.train.model import model_config

    config, sequence = run_config(chain, STAGE), _sequence(chain, defaults)
    model = config.model
    if "text_base" in chain and model.decoder is not None:
        dense = run_config(chain, "text_base").model.decoder
        if dense is None or any(chain[stage].get(part) for stage in ("text_base", STAGE) for part in ("decoder", "vision")):
            raise ConfigurationError("budget.same: flops counts models of recipes, but a part comes from a folder: use tokens")
        experts = {name: getattr(model.decoder, name) for name in type(model.decoder).model_fields if "expert" in name}
        model = model.model_copy(update={"decoder": dense.model_copy(update=experts if model.decoder.num_experts else {})})
    if model.decoder is not None and not model.decoder.vocab_size:
        vocabulary = _integer(chain, "data", "vocabulary", defaults)
        model = model.model_copy(update={"decoder": model.decoder.model_copy(update={"vocab_size": vocabulary})})
    flops = count_flops(model_config(model, sequence), Trained.of(config.train))
    return flops.step(full_work(sequence, config.train.global_batch)).total


def _sequence(chain: Chain, defaults: Defaults) -> SequenceConfig:
    return validate(SequenceConfig, {field: _integer(chain, "mix", name, defaults) for field, name in SIZES.items()}, "mix")


def _integer(chain: Chain, stage: str, name: str, defaults: Defaults) -> int:
    inputs = {**defaults.get(STAGES[stage].step, {}), **chain.get(stage, {})}
    if name not in inputs:
        raise ConfigurationError(f"{stage}.{name}: is required to compute the budget")
    try:
        return parse_integer(inputs[name].strip())
    except ValueError as error:
        raise ConfigurationError(f"{stage}.{name}: {error}") from None
