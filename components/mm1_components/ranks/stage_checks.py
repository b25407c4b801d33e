"""Checks of values of the steps that train: recipe, parts of the model, sizes against the mixture. Torch-free."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from mm1.config.resolve import path_of, resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.batch_plan import check_experts, plan_layout
from mm1.train.config import RunConfig, SequenceConfig
from mm1.train.model_origin import check_patches, check_sequence, fit_tower, sequence_sizes, settle_parts, tower_sizes
from mm1_components.ranks.launcher import Layout
from mm1_components.wrapper.checks import Made

FOLDER_FILES = ("config.json", "open_clip_config.json")


def resolve_run(recipe: str, overrides: str, seed: int) -> RunConfig:
    """A recipe's configuration with the user's overrides.

    Args:
        recipe: its name.
        overrides: ``path=value`` items separated by spaces; quotes as in a shell.
        seed: of fresh weights.

    Raises:
        ConfigurationError: unknown recipe, or an override that does not fit or has no effect.
    """
    given = split_overrides(overrides)
    if any(path_of(override) == "train.seed" for override in given):
        raise ConfigurationError(f"override train.seed has no effect: give the input seed, for example seed={seed}")
    return resolve(resolve(registry.get(recipe), given), [f"train.seed={seed}"])


def split_overrides(text: str) -> list[str]:
    """Overrides in one text -> list.

    Raises:
        ConfigurationError: an unclosed quote.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"overrides: {text!r}: {error}") from None


def checks_of(step: str, stages: Sequence[str]) -> tuple[Callable[..., object], ...]:
    """The checks of a step that trains recipes of some stages."""

    def check_recipe(recipe: str, overrides: str, seed: int) -> None:
        stage = resolve_run(recipe, overrides, seed).stage
        if stage not in stages:
            raise ConfigurationError(f"recipe {recipe} is for stage {stage}, but step {step} trains {' and '.join(stages)}")

    return (
        check_recipe,
        check_parts,
        check_parts_after,
        check_vision_folder,
        check_decoder_folder,
        check_mixture,
        check_tower,
        check_tower_after,
        check_tower_folder,
        check_layout,
    )


def settle(config: RunConfig, stage_before: str, vision: str, decoder: str, overrides: str) -> RunConfig:
    """The run with the parts that it brings itself; what `init` or a folder brings is taken out.

    Args:
        config: of :func:`resolve_run`.
        stage_before: stage of the checkpoint to start from, or empty.
        vision: folder of a tower, or empty.
        decoder: folder of a decoder, or empty.
        overrides: the user's, to refuse those without effect.

    Raises:
        ConfigurationError: a part has no origin or two, or its experts cannot be shared as wanted.
    """
    config = settle_parts(config, stage_before, vision, decoder, split_overrides(overrides))
    if config.model.decoder is not None:
        check_experts(config.train.expert_parallel, config.model.decoder.num_experts)
    return config


def check_parts(recipe: str, overrides: str, seed: int, init: str, vision: str = "", decoder: str = "") -> None:
    """Without a checkpoint to start from, the recipe and the folders bring every part of the model."""
    if not init:
        settle(resolve_run(recipe, overrides, seed), "", vision, decoder, overrides)


def check_parts_after(recipe: str, overrides: str, seed: int, init: Made, vision: str = "", decoder: str = "") -> None:
    """After another stage: no override of a part that its checkpoint brings."""
    if before := _stage_of(init):
        settle(resolve_run(recipe, overrides, seed), before, vision, decoder, overrides)


def check_vision_folder(vision: Path) -> None:
    """The folder holds a model's configuration."""
    _check_folder("vision", vision)


def check_decoder_folder(decoder: Path) -> None:
    """The folder holds a model's configuration."""
    _check_folder("decoder", decoder)


def _check_folder(part: str, folder: Path) -> None:
    if not any((folder / name).is_file() for name in FOLDER_FILES):
        raise ConfigurationError(f"{part}: {folder} has no config.json: give a model's folder in Hugging Face layout")


def check_mixture(recipe: str, overrides: str, seed: int, data: Made) -> None:
    """The mixture is made as the recipe expects."""
    if sizes := _mixture_sizes(data):
        check_sequence(resolve_run(recipe, overrides, seed).sequence, sizes)


def check_tower(recipe: str, overrides: str, seed: int, init: str, data: Made, vision: str = "", decoder: str = "") -> None:
    """The patches of the recipe's tower divide the mixture's images."""
    if not init and (sizes := _mixture_sizes(data)):
        config = settle(resolve_run(recipe, overrides, seed), "", vision, decoder, overrides)
        fit_tower(config, sizes.image_size_px, decoder)


def check_tower_after(
    recipe: str, overrides: str, seed: int, init: Made, data: Made, vision: str = "", decoder: str = ""
) -> None:
    """The same after a stage that brings no tower."""
    if (before := _stage_of(init)) and (sizes := _mixture_sizes(data)):
        config = settle(resolve_run(recipe, overrides, seed), before, vision, decoder, overrides)
        fit_tower(config, sizes.image_size_px, decoder)


def check_tower_folder(vision: Path, data: Made) -> None:
    """The patches of a given tower divide the mixture's images."""
    sizes = _mixture_sizes(data)
    tower = tower_sizes(vision)
    if sizes and tower:
        check_patches(sizes.image_size_px, *tower)


def check_layout(
    recipe: str, overrides: str, seed: int, nodes: int, processes: int, pool: str, launcher: str, decoder: str = ""
) -> None:
    """The processes divide the batch; a decoder that is published without training needs none."""
    if decoder:
        return
    try:
        world_size = Layout(nodes=nodes, processes=processes, pool=pool).world_size(launcher)
    except ConfigurationError:
        return  # what is wrong with pool or launcher is said where they are read
    plan_layout(resolve_run(recipe, overrides, seed).train, world_size)


def _stage_of(init: Made) -> str:
    """The stage of the checkpoint to start from, where that is known."""
    if init.step not in ("pretrain", "sft") or not init.known("recipe", "overrides", "seed"):
        return ""
    try:
        return resolve_run(init.inputs["recipe"], init.inputs["overrides"], init.inputs["seed"]).stage
    except ConfigurationError:
        return ""  # what is wrong is said of the task that makes it


def _mixture_sizes(data: Made) -> SequenceConfig | None:
    """What the sequences will be made of, when a step data_mix will make them."""
    if data.step != "data_mix" or not data.known("sequence_length", "max_images", "image_size", "image_tokens"):
        return None
    values = data.inputs
    return sequence_sizes(
        length=values["sequence_length"],
        max_images=values["max_images"],
        image_size_px=values["image_size"],
        image_tokens=values["image_tokens"],
    )
