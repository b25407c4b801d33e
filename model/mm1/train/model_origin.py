"""Where the parts of a model come from: recipe, `init` checkpoint or given folders. Torch-free.

| given                         | tower                | connector          | decoder           |
|-------------------------------|----------------------|--------------------|-------------------|
| nothing                       | recipe               | recipe             | recipe            |
| init of a text stage          | recipe               | recipe             | init              |
| init of pretrain or sft       | init                 | init               | init              |
| `vision` folder besides       | folder               | recipe (fresh)     | as above          |
| `decoder` folder (text stage) | recipe               | recipe             | folder            |

What does not come from the recipe is taken out of the resolved configuration, so that it tells no untruth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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


def settle_parts(
    config: RunConfig, init: Checkpoint | None, vision: str, decoder: str, overrides: Sequence[str] = ()
) -> RunConfig:
    """Take out of the configuration what `init` or a folder brings.

    Args:
        config: the run with its overrides.
        init: checkpoint to start from.
        vision: folder of a tower, or empty.
        decoder: folder of a decoder, or empty.
        overrides: the ones that the user gave, to refuse those without effect.

    Raises:
        ConfigurationError: a part has no origin, two origins, or an override that could have no effect.
    """
    if decoder and (init or config.stage != "text"):
        raise ConfigurationError(
            "decoder: a folder goes into the text stage, without init; later stages take that checkpoint as init"
        )
    whole = init is not None and init.stage not in LANGUAGE_ONLY
    origins = {
        "vision": f"the folder {vision}" if vision else "init" if whole else "",
        "connector": "init" if whole and not vision else "",
        "decoder": f"the folder {decoder}" if decoder else "init" if init else "",
    }
    upcycled = bool(init and config.model.decoder and config.model.decoder.num_experts)
    effective = tuple(f"model.decoder.{field}=" for field in EXPERT_FIELDS) if upcycled else ()
    for part, origin in origins.items():
        given = [item.strip() for item in overrides if item.strip().startswith(f"model.{part}.")]
        if origin and (useless := [item for item in given if not item.startswith(effective or ("=",))]):
            raise ConfigurationError(f"override {useless[0]}: the {part} comes from {origin}, so it has no effect")
    kept = {part: getattr(config.model, part) for part, origin in origins.items() if not origin}
    if upcycled:
        kept["decoder"] = config.model.decoder  # what a dense decoder is upcycled to
    if missing := [part for part, section in kept.items() if section is None]:
        raise ConfigurationError(
            f"recipe {config.recipe} brings no {' and no '.join(missing)}: give a checkpoint of the stage before as init"
        )
    return config.model_copy(update={"model": ModelConfig(**kept)})


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


def check_sequence(sequence: SequenceConfig | None, mix: DataMix) -> None:
    """Refuse a mixture that is not made as the recipe wants it.

    Raises:
        ConfigurationError: the length of its sequences, its images or their tokens are others.
    """
    if sequence is None:
        return
    pairs = {
        "length": ("sequence_length", mix.sequence_length),
        "max_images": ("max_images", mix.max_images),
        "image_size_px": ("image_size", mix.image_size_px),
        "image_tokens": ("image_tokens", mix.image_tokens),
    }
    for field, (name, found) in pairs.items():
        wanted = getattr(sequence, field)
        if wanted != found:
            raise ConfigurationError(
                f"data: {name}={found} in its mixture, but the recipe wants sequence.{field}={wanted}: "
                f"make the mixture with that, or override sequence.{field}={found}"
            )
