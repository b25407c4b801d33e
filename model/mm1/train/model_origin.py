"""Where the parts of a model come from: recipe, `init` checkpoint or given folders. Torch-free.

| given                         | tower                | connector          | decoder           |
|-------------------------------|----------------------|--------------------|-------------------|
| nothing                       | recipe               | recipe             | recipe            |
| init of a text stage          | recipe               | recipe             | init              |
| init of pretrain or sft       | init                 | init               | init              |
| `vision` folder besides       | folder               | recipe (fresh)     | as above          |
| `decoder` folder (text stage) | recipe               | recipe             | folder            |

What does not come from the recipe is taken out of the resolved configuration, so that the stored configuration is accurate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm1.config.resolve import path_of, validate
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix
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
"""Fields of a decoder that say how a dense one becomes sparse."""
LANGUAGE_ONLY = ("text", "imported")
"""Stages whose checkpoints bring a language model alone; their tower and connector were never trained."""


def settle_parts(config: RunConfig, init_stage: str, vision: str, decoder: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Take out of the configuration what `init` or a folder brings.

    Args:
        config: the run with its overrides.
        init_stage: stage of the checkpoint to start from, or empty.
        vision: folder of a tower, or empty.
        decoder: folder of a decoder, or empty.
        overrides: the ones that the user gave, to refuse those without effect.

    Raises:
        ConfigurationError: a part has no origin, two origins, or an override that could have no effect.
    """
    if decoder and (init_stage or config.stage != "text"):
        raise ConfigurationError(
            "decoder: a folder goes into the text stage, without init; later stages take that checkpoint as init"
        )
    whole = init_stage not in ("", *LANGUAGE_ONLY)
    origins = {
        "vision": f"the folder {vision}" if vision else "init" if whole else "",
        "connector": "init" if whole and not vision else "",
        "decoder": f"the folder {decoder}" if decoder else "init" if init_stage else "",
    }
    upcycled = bool(init_stage and config.model.decoder and config.model.decoder.num_experts)
    effective = tuple(f"model.decoder.{field}" for field in EXPERT_FIELDS) if upcycled else ()
    for part, origin in origins.items():
        useless = [item for item in overrides if _reaches(path_of(item), part) and path_of(item) not in effective]
        if origin and useless:
            raise ConfigurationError(f"override {useless[0].strip()}: the {part} comes from {origin}, so it has no effect")
    kept = {part: getattr(config.model, part) for part, origin in origins.items() if not origin}
    check_connector(ModelConfig(**kept))
    if upcycled:
        kept["decoder"] = config.model.decoder  # what a dense decoder is upcycled to
    if missing := [part for part, section in kept.items() if section is None]:
        raise ConfigurationError(
            f"recipe {config.recipe} brings no {' and no '.join(missing)}: give a checkpoint of the stage before as init"
        )
    return config.model_copy(update={"model": ModelConfig(**kept)})


def _reaches(path: str, part: str) -> bool:
    """Whether an override changes a part of the model: a field of it, or all of it."""
    return path == "model" or f"{path}.".startswith(f"model.{part}.")


def check_connector(model: ModelConfig) -> None:
    """Refuse a connector that does not go with the decoder of the same recipe.

    Raises:
        ConfigurationError: its heads do not divide the decoder's width.
    """
    connector, decoder = model.connector, model.decoder
    if connector and decoder and connector.type == "attention_pool" and decoder.hidden_size % connector.num_heads:
        raise ConfigurationError(
            f"model.connector.num_heads={connector.num_heads} does not divide model.decoder.hidden_size={decoder.hidden_size}"
        )


def model_json(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """The model's ``config.json`` of a checkpoint."""
    found: dict[str, Any] = json.loads(store.get_bytes(checkpoint.model["config.json"]))
    return found


def check_against_mixture(model: dict[str, Any], image_tokens: int, has_images: bool) -> None:
    """Refuse an `init` whose images take another number of tokens than the mixture's.

    Raises:
        ConfigurationError: the numbers differ.
    """
    if has_images and model["image_tokens"] != image_tokens:
        raise ConfigurationError(
            f"data: its images take {image_tokens} tokens, but those of init {model['image_tokens']}: "
            f"make the mixture with image_tokens={model['image_tokens']}"
        )


def sequence_of(mix: DataMix) -> SequenceConfig:
    """What the sequences of a mixture are made of."""
    return sequence_sizes(
        length=mix.sequence_length,
        max_images=mix.max_images,
        image_size_px=mix.image_size_px,
        image_tokens=mix.image_tokens,
    )


def sequence_sizes(**sizes: int) -> SequenceConfig:
    """The sizes of a mixture, as far as a model can be trained on them.

    Raises:
        ConfigurationError: a size of which no model can be made.
    """
    return validate(SequenceConfig, sizes, "data")


def check_sequence(expected: SequenceConfig | None, mixture: SequenceConfig) -> None:
    """Refuse a mixture that is not made as the recipe expects.

    Raises:
        ConfigurationError: the length of its sequences, its images or their tokens are others.
    """
    parameters = {"length": "sequence_length", "image_size_px": "image_size"}
    for field in SequenceConfig.model_fields if expected else ():
        value, other = getattr(expected, field), getattr(mixture, field)
        if value != other:
            name = parameters.get(field, field)
            raise ConfigurationError(
                f"data: {name}={other} in its mixture, but the recipe expects sequence.{field}={value}: "
                f"make the mixture with {name}={value}, or override sequence.{field}={other}"
            )


def check_patches(image_size_px: int, patch_size_px: int, own_size_px: int | None) -> None:
    """Refuse images that are no whole number of the tower's patches.

    Args:
        image_size_px: side of the mixture's images.
        patch_size_px: side of a patch.
        own_size_px: side of the images that the tower was trained on; None for a fresh one.

    Raises:
        ConfigurationError: the patches do not divide the images.
    """
    if image_size_px % patch_size_px == 0:
        return
    if own_size_px:
        remedy = f"make the mixture with image_size={own_size_px}, the tower's own size"
    else:
        remedy = f"override model.vision.patch_size_px, or make the mixture with a multiple of {patch_size_px} as image_size"
    raise ConfigurationError(
        f"data: images of {image_size_px} pixels cannot be divided into the tower's patches of {patch_size_px} pixels: {remedy}"
    )


def fit_tower(config: RunConfig, image_size_px: int, decoder: str) -> RunConfig:
    """Let the patches of the recipe's tower divide the mixture's images.

    Args:
        config: with its parts settled; a tower that comes from elsewhere is left alone.
        image_size_px: side of the mixture's images.
        decoder: folder of a decoder that is published without training, or empty. No later stage keeps the tower beside it,
            so the size of its patches is no decision, and is changed.

    Raises:
        ConfigurationError: the patches of a tower that is trained do not divide the images.
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
    """Patch size and image size of a vision tower's folder, in pixels; None where its configuration does not say."""
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
