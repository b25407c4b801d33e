"""Origins of a model's parts: recipe, `init` checkpoint or given folders. Torch-free.

| input                         | tower                | connector          | decoder           |
|-------------------------------|----------------------|--------------------|-------------------|
| nothing                       | recipe               | recipe             | recipe            |
| init of a text stage          | recipe               | recipe             | init              |
| init of a vision stage        | init                 | recipe             | init              |
| init of pretrain or sft       | init                 | init               | init              |
| `vision` folder as well       | folder               | recipe (fresh)     | as above          |
| `decoder` folder (text stage) | recipe               | recipe             | folder            |

Parts that do not come from the recipe are removed from the resolved configuration, so that the stored one is accurate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm1.config.resolve import path_of, validate
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix
from mm1.modeling.image_layout import ImageLayout
from mm1.store.base import Store
from mm1.train.config import ModelConfig, RunConfig, SequenceConfig

EXPERT_FIELDS = (
    "num_experts",
    "experts_per_token",
    "expert_ffn_size",
    "sparse_every",
    "balance_loss_weight",
    "z_loss_weight",
)
"""Fields that control how a dense decoder becomes sparse."""
SINGLE = str(ImageLayout())
PARTS = ("vision", "connector", "decoder")
TRAINED_PARTS = {"text": ("decoder",), "imported": ("decoder",), "vision": ("vision", "decoder")}
"""Stage -> parts that its checkpoints provide: the others were never trained. Stages that are not here provide all parts."""


def provides(stage: str, part: str) -> bool:
    """Whether a checkpoint of a stage provides a part of the model to a run that starts from it; False without a stage."""
    return bool(stage) and part in TRAINED_PARTS.get(stage, PARTS)


def settle_parts(config: RunConfig, init_stage: str, vision: str, decoder: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Remove the parts that come from `init` or a folder from the configuration.

    Args:
        config: the run with its overrides.
        init_stage: stage of the checkpoint to start from, or empty.
        vision: folder of a vision tower, or empty.
        decoder: folder of a decoder, or empty.
        overrides: the user's overrides; those without effect are refused.

    Raises:
        ConfigurationError: a part has no origin or two origins, or an override has no effect.
    """
    if decoder and (init_stage or config.stage != "text"):
        raise ConfigurationError(
            "decoder: only the text stage accepts a folder, and without init; later stages take that checkpoint as init"
        )
    if config.stage == "vision" and provides(init_stage, "connector"):
        raise ConfigurationError(
            f"init: a checkpoint of stage {init_stage}, whose connector fits its tower: train the tower before the connector, "
            "with init set to a text base or a checkpoint of stage vision, or leave init empty"
        )
    origins = {
        "vision": f"the folder {vision}" if vision else "init" if provides(init_stage, "vision") else "",
        "connector": "init" if provides(init_stage, "connector") and not vision else "",
        "decoder": f"the folder {decoder}" if decoder else "init" if init_stage else "",
    }
    upcycled = bool(init_stage and config.model.decoder and config.model.decoder.num_experts)
    effective = tuple(f"model.decoder.{field}" for field in EXPERT_FIELDS) if upcycled else ()
    for part, origin in origins.items():
        ignored = [item for item in overrides if _reaches(path_of(item), part) and path_of(item) not in effective]
        if origin and ignored:
            raise ConfigurationError(f"override {ignored[0].strip()}: the {part} comes from {origin}, so it has no effect")
    kept = {part: getattr(config.model, part) for part, origin in origins.items() if not origin}
    check_connector(ModelConfig(**kept))
    if upcycled:
        kept["decoder"] = config.model.decoder  # the target of upcycling
    if config.train.lora.rank and (not provides(init_stage, "connector") or vision or upcycled):
        raise ConfigurationError(
            f"train.lora.rank={config.train.lora.rank}: adapters need a whole model as init, a checkpoint of pretrain or sft, "
            "and no other part: set init, or train.lora.rank=0"
        )
    if missing := [part for part, section in kept.items() if section is None]:
        raise ConfigurationError(
            f"recipe {config.recipe} has no {' and no '.join(missing)}: set init to a checkpoint of the previous stage"
        )
    temporary = {name: getattr(config.model, name) for name in config.model.objectives}
    return config.model_copy(update={"model": ModelConfig(**kept, **temporary)})


def _reaches(path: str, part: str) -> bool:
    """Whether an override changes a part of the model, or a field of it."""
    return path == "model" or f"{path}.".startswith(f"model.{part}.")


def check_connector(model: ModelConfig) -> None:
    """Refuse a connector that does not fit the decoder of the same recipe.

    Raises:
        ConfigurationError: the number of its heads does not divide the decoder's width.
    """
    connector, decoder = model.connector, model.decoder
    if connector and decoder and connector.type == "attention_pool" and decoder.hidden_size % connector.num_heads:
        raise ConfigurationError(
            f"model.connector.num_heads={connector.num_heads} does not divide model.decoder.hidden_size={decoder.hidden_size}"
        )


def model_json(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """Read the model's ``config.json`` of a checkpoint."""
    config: dict[str, Any] = json.loads(store.get_bytes(checkpoint.model["config.json"]))
    return config


def check_against_mixture(model: dict[str, Any], mix: DataMix, *, tower_only: bool = False) -> None:
    """Refuse a whole model whose images take a different number of tokens from the mixture's, or do not fit its tower.

    Args:
        model: its configuration.
        mix: the mixture.
        tower_only: whether a fresh connector replaces its own, so that the number of tokens does not matter.

    Raises:
        ConfigurationError: the numbers differ, or the patch size does not divide the image size.
    """
    if not mix.has_images:
        return
    vision = model["vision_config"]
    if isinstance(vision.get("patch_size"), int):
        check_patches(mix.image_size_px, vision["patch_size"], vision.get("image_size"))
    if not tower_only:
        check_image_tokens(model["image_tokens"], mix.image_tokens)


def check_image_tokens(of_init: int, of_mixture: int) -> None:
    """Refuse images that take a different number of tokens from those of the initial model.

    Raises:
        ConfigurationError: the numbers differ.
    """
    if of_init != of_mixture:
        raise ConfigurationError(
            f"data: its images take {of_mixture} tokens, but those of init take {of_init}: "
            f"build the mixture with image_tokens={of_init}"
        )


def sequence_of(mix: DataMix) -> SequenceConfig:
    """Return the sizes of the sequences of a mixture."""
    return sequence_sizes(
        length=mix.sequence_length,
        max_images=mix.max_images,
        image_size_px=mix.image_size_px,
        image_tokens=mix.image_tokens,
        image_layout=mix.image_layout,
    )


def sequence_sizes(**sizes: int | str) -> SequenceConfig:
    """Validate the sizes of a mixture that a model is to be trained on.

    Raises:
        ConfigurationError: no model can have one of the sizes.
    """
    return validate(SequenceConfig, sizes, "data")


def check_sequence(expected: SequenceConfig | None, mixture: SequenceConfig) -> None:
    """Refuse a mixture whose sequences are not the ones that the recipe expects.

    Raises:
        ConfigurationError: the sequence length, the images, their tokens or their division into tiles differ.
    """
    parameters = {"length": "sequence_length", "image_size_px": "image_size"}
    for field in SequenceConfig.model_fields if expected else ():
        value, actual = (getattr(sizes, field) or SINGLE for sizes in (expected, mixture))
        if value != actual:
            name = parameters.get(field, field)
            raise ConfigurationError(
                f"data: {name}={actual} in its mixture, but the recipe expects sequence.{field}={value}: "
                f"build the mixture with {name}={value}, or override sequence.{field}={actual}"
            )


def check_pairs(model: ModelConfig, mixture: SequenceConfig) -> None:
    """Refuse images in tiles for the contrastive objective, whose pairs are documents with one image as the tower sees it.

    Raises:
        ConfigurationError: the mixture divides images.
    """
    if model.clip is not None and mixture.image_layout:
        raise ConfigurationError(
            f"data: image_layout={mixture.image_layout} in its mixture, but model.clip compares whole images with their "
            f"captions: build the mixture with image_layout={SINGLE}, or train with model.aim"
        )


def check_patches(image_size_px: int, patch_size_px: int, own_size_px: int | None) -> None:
    """Refuse images that are not a whole number of the tower's patches wide.

    Args:
        image_size_px: side of the mixture's images.
        patch_size_px: side of a patch.
        own_size_px: side of the images that the tower was trained on; None for a fresh tower.

    Raises:
        ConfigurationError: the patch size does not divide the image size.
    """
    if image_size_px % patch_size_px == 0:
        return
    if own_size_px:
        own = f"image_size={own_size_px}, the tower's own size"
        remedy = f"build the mixture with {own}, or another multiple of {patch_size_px}"
    else:
        remedy = f"override model.vision.patch_size_px, or build the mixture with a multiple of {patch_size_px} as image_size"
    raise ConfigurationError(
        f"data: images of {image_size_px} pixels cannot be divided into the tower's patches of {patch_size_px} pixels: {remedy}"
    )


def fit_tower(config: RunConfig, image_size_px: int, decoder: str) -> RunConfig:
    """Make the patch size of the recipe's tower divide the mixture's image size.

    Args:
        config: the run after `settle_parts`; a tower that comes from elsewhere does not change.
        image_size_px: side of the mixture's images.
        decoder: folder of a decoder that is published without training, or empty. No later stage keeps the tower that is
            published with it, so its patch size does not matter and is reduced to fit.

    Raises:
        ConfigurationError: the patch size of a tower that is trained does not divide the image size.
    """
    vision = config.model.vision
    if vision is None:
        return config
    if not decoder:
        check_patches(image_size_px, vision.patch_size_px, None)
        return config
    patch_size_px = max(size for size in range(1, vision.patch_size_px + 1) if image_size_px % size == 0)
    model = config.model.model_copy(update={"vision": vision.model_copy(update={"patch_size_px": patch_size_px})})
    return config.model_copy(update={"model": model})


def tower_sizes(folder: Path) -> tuple[int, int] | None:
    """Read the patch size and the image size of a vision tower's folder, in pixels; None if its configuration has neither."""
    keys = ("patch_size", "image_size")
    for path in (folder / "config.json", folder / "open_clip_config.json"):
        if not path.is_file():
            continue
        try:
            tree = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        sections = (tree, _section(tree, "vision_config"), _section(_section(tree, "model_cfg"), "vision_cfg"))
        for section in sections:
            patch, image = (_section(section, key) for key in keys)
            if isinstance(patch, int) and isinstance(image, int) and patch > 0:
                return patch, image
    return None


def _section(tree: Any, key: str) -> Any:
    return tree.get(key) if isinstance(tree, dict) else None
