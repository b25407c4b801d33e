"""Checks of the training steps' inputs: recipe, parts of the model, sizes against the mixture. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mm1.config.resolve import path_of, resolve, split_overrides
from mm1.data.load.mixture import TEXT_BASE
from mm1.errors import ConfigurationError
from mm1.manifests import split_uri
from mm1.recipes import registry
from mm1.store.address import same_store
from mm1.train.batch_plan import check_experts, plan_layout
from mm1.train.config import RunConfig, SequenceConfig
from mm1.train.model_origin import (
    check_image_tokens,
    check_pairs,
    check_patches,
    check_sequence,
    fit_tower,
    provides,
    sequence_sizes,
    settle_parts,
    tower_sizes,
)
from mm1_components.ranks.launcher import Layout
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.device_hours import check_device_hours

FOLDER_FILES = ("config.json", "open_clip_config.json")
NO_TEXT = (
    "data: {}, and the text base is trained on text only: give text=..., or decoder=... (the folder of a causal decoder in "
    "Hugging Face format, which becomes the text base without training)"
)


def resolve_run(recipe: str, overrides: str, seed: int) -> RunConfig:
    """Return the configuration of a recipe with the user's overrides.

    Args:
        recipe: name of the recipe.
        overrides: ``path=value`` items separated by spaces; quotes as in a shell.
        seed: seed of the initialization.

    Raises:
        ConfigurationError: unknown recipe, or an override that is invalid or has no effect.
    """
    items = split_overrides(overrides)
    if any(path_of(override) == "train.seed" for override in items):
        raise ConfigurationError(f"override train.seed has no effect: set the input seed instead, for example seed={seed}")
    return resolve(resolve(registry.get(recipe), items), [f"train.seed={seed}"])


def checks_of(step: str, stages: Sequence[str]) -> tuple[Callable[..., object], ...]:
    """Return the checks of a step that trains recipes of the given stages."""

    def check_recipe(recipe: str, overrides: str, seed: int) -> None:
        stage = resolve_run(recipe, overrides, seed).stage
        if stage not in stages:
            expected = " or ".join(stages)
            raise ConfigurationError(f"recipe: {step} expects a recipe of stage {expected}, got {recipe} of stage {stage}")

    return (
        check_recipe,
        check_resume,
        check_restart,
        check_resume_store,
        check_parts,
        check_parts_after,
        check_vision_folder,
        check_decoder_folder,
        check_mixture,
        check_text,
        check_tower,
        check_tower_after,
        check_init_images,
        check_tower_folder,
        check_layout,
        check_device_hours,
    )


def settle(config: RunConfig, stage_before: str, vision: str, decoder: str, overrides: str) -> RunConfig:
    """Remove the model parts that come from `init` or a folder from the configuration.

    Args:
        config: configuration from :func:`resolve_run`.
        stage_before: stage of the initial checkpoint, or empty.
        vision: folder of a vision tower, or empty.
        decoder: folder of a decoder, or empty.
        overrides: the user's overrides, to reject those without effect.

    Raises:
        ConfigurationError: a part has no origin or two, or its experts cannot be distributed as configured.
    """
    config = settle_parts(config, stage_before, vision, decoder, split_overrides(overrides))
    if config.model.decoder is not None:
        check_experts(config.train.expert_parallel, config.model.decoder.num_experts)
    return config


def check_resume(resume: str, vision: str = "", decoder: str = "") -> None:
    """Check that a run that continues another one gets no other parts."""
    for name, folder in {"vision": vision, "decoder": decoder}.items():
        if resume and folder:
            raise ConfigurationError(f"{name}: all parts come from the checkpoint to resume: leave {name} empty")


def check_restart(recipe: str, overrides: str, seed: int, resume: str) -> None:
    """Check that only a run that continues another one is told to restart the data."""
    if not resume and resolve_run(recipe, overrides, seed).train.restart_data:
        raise ConfigurationError("train.restart_data=true has no effect without the input resume: remove it")


def check_resume_store(resume: str, store: str) -> None:
    """Check that the checkpoint to continue is in the store of the run, with which it shares files."""
    if resume and not same_store(address := split_uri(resume)[0], store):
        raise ConfigurationError(
            f"resume: the checkpoint is in {address}, but the run uses {store}: set --store {address} (with mm1 submit: "
            f"-p store={address})"
        )


def check_parts(recipe: str, overrides: str, seed: int, init: str, resume: str, vision: str = "", decoder: str = "") -> None:
    """Check that, without a checkpoint to start from, recipe and folders provide every part of the model."""
    if not init and not resume:
        settle(resolve_run(recipe, overrides, seed), "", vision, decoder, overrides)


def check_parts_after(
    recipe: str, overrides: str, seed: int, init: Producer, resume: str, vision: str = "", decoder: str = ""
) -> None:
    """Check that, after another stage, no override changes a part from its checkpoint."""
    if not resume and (before := _stage_of(init)):
        settle(resolve_run(recipe, overrides, seed), before, vision, decoder, overrides)


def check_vision_folder(vision: Path) -> None:
    """Check that the folder contains a model's configuration."""
    _check_folder("vision", vision)


def check_decoder_folder(decoder: Path) -> None:
    """Check that the folder contains a model's configuration."""
    _check_folder("decoder", decoder)


def _check_folder(part: str, folder: Path) -> None:
    if not any((folder / name).is_file() for name in FOLDER_FILES):
        raise ConfigurationError(f"{part}: {folder} has no config.json: give the folder of a model in Hugging Face format")


def check_mixture(recipe: str, overrides: str, seed: int, data: Producer) -> None:
    """Check that the mixture's sizes are those of the recipe, and that it divides no images of pairs."""
    if sizes := _mixture_sizes(data):
        config = resolve_run(recipe, overrides, seed)
        check_sequence(config.sequence, sizes)
        check_pairs(config.model, sizes)


def check_text(recipe: str, overrides: str, seed: int, data: Producer, decoder: str = "") -> None:
    """Check that there is text to train a text base on."""
    ingest = data.inputs.get("data") if data.step == "data_mix" else None
    if decoder or data.inputs.get("weights") != TEXT_BASE or not isinstance(ingest, Producer) or ingest.step != "ingest":
        return
    if (
        resolve_run(recipe, overrides, seed).stage == "text"
        and ingest.known("data", "text")
        and not any(ingest.inputs[name] for name in ("data", "text"))
    ):
        raise ConfigurationError(NO_TEXT.format("the source text is not ingested"))


def check_tower(
    recipe: str, overrides: str, seed: int, init: str, resume: str, data: Producer, vision: str = "", decoder: str = ""
) -> None:
    """Check that the patch size of the recipe's tower divides the mixture's image size."""
    if not init and not resume and (sizes := _mixture_sizes(data)):
        config = settle(resolve_run(recipe, overrides, seed), "", vision, decoder, overrides)
        fit_tower(config, sizes.image_size_px, decoder)


def check_tower_after(
    recipe: str, overrides: str, seed: int, init: Producer, resume: str, data: Producer, vision: str = "", decoder: str = ""
) -> None:
    """Check the same after a stage without a tower."""
    if not resume and (before := _stage_of(init)) and (sizes := _mixture_sizes(data)):
        config = settle(resolve_run(recipe, overrides, seed), before, vision, decoder, overrides)
        fit_tower(config, sizes.image_size_px, decoder)


def check_init_images(init: Producer, data: Producer, vision: str = "") -> None:
    """Check that the images of the mixture fit the model of a stage with a tower, which may interpolate to their size."""
    before, sizes = _mixture_sizes(init.inputs.get("data")), _mixture_sizes(data)
    if vision or before is None or sizes is None or not provides(_stage_of(init), "vision"):
        return
    if provides(_stage_of(init), "connector"):
        check_image_tokens(before.image_tokens, sizes.image_tokens)
    if patch_size_px := _patch_size(init):
        check_patches(sizes.image_size_px, patch_size_px, before.image_size_px)


def _patch_size(init: Producer) -> int | None:
    """Return the patch size of the tower of a checkpoint, if it is that of a recipe."""
    origin = init.inputs.get("init", "")
    if any(init.inputs.get(name) for name in ("vision", "resume")) or (origin and not isinstance(origin, Producer)):
        return None
    if origin and provides(_stage_of(origin), "vision"):
        return _patch_size(origin)
    vision = resolve_run(init.inputs["recipe"], init.inputs["overrides"], init.inputs["seed"]).model.vision
    return vision.patch_size_px if vision else None


def check_tower_folder(vision: Path, data: Producer) -> None:
    """Check that the patch size of a tower from a folder divides the mixture's image size."""
    sizes = _mixture_sizes(data)
    tower = tower_sizes(vision)
    if sizes and tower:
        check_patches(sizes.image_size_px, *tower)


def check_layout(
    recipe: str, overrides: str, seed: int, nodes: int, processes: int, pool: str, launcher: str, decoder: str = ""
) -> None:
    """Check that the number of ranks divides the batch; a decoder that is published without training needs no ranks."""
    if decoder:
        return
    try:
        world_size = Layout(nodes=nodes, processes=processes, pool=pool).world_size(launcher)
    except ConfigurationError:
        return  # errors in pool or launcher are reported where they are read
    plan_layout(resolve_run(recipe, overrides, seed).train, world_size)


def _stage_of(init: Producer) -> str:
    """Return the stage of the initial checkpoint, if known."""
    if init.step not in ("pretrain", "pretrain_vision", "sft") or not init.known("recipe", "overrides", "seed"):
        return ""
    try:
        return resolve_run(init.inputs["recipe"], init.inputs["overrides"], init.inputs["seed"]).stage
    except ConfigurationError:
        return ""  # reported for the task that produces it


def _mixture_sizes(data: object) -> SequenceConfig | None:
    """Return the sizes of the sequences, if a step data_mix will produce them."""
    if not isinstance(data, Producer) or data.step != "data_mix":
        return None
    if not data.known("sequence_length", "max_images", "image_size", "image_tokens", "image_layout"):
        return None
    values = data.inputs
    return sequence_sizes(
        length=values["sequence_length"],
        max_images=values["max_images"],
        image_size_px=values["image_size"],
        image_tokens=values["image_tokens"],
        image_layout=values["image_layout"],
    )
