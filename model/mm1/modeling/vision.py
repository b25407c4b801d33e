"""Patches from any vision tower of transformers.

    pixel_values (N, 3, height, width) -> tower -> patches_NPV in row order, without class and register tokens

Names of dimensions:
    N images, P patches of an image, L tokens of an image (patches, class and register tokens), V width of the tower
"""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from .configuration import MM1Config


def build_vision_tower(config: MM1Config) -> Any:
    """Build the tower of `config.vision_config`, without the parts that only serve its class token."""
    return keep_patches_only(AutoModel.from_config(config.vision_config))


def keep_patches_only(tower: Any) -> Any:
    """Remove the parts that only serve the class token from a tower, and return it.

    Their parameters would get no gradient, which makes data-parallel training fail.
    """
    model_type = tower.config.model_type
    if model_type == "clip_vision_model":
        tower.post_layernorm = nn.Identity()
    elif model_type == "siglip_vision_model" and getattr(tower, "use_head", False):
        tower.use_head = False
        del tower.head
    elif getattr(tower, "pooler", None) is not None:
        tower.pooler = None
    return tower


def encode_patches(tower: Any, pixel_values: torch.Tensor, config: MM1Config) -> tuple[torch.Tensor, tuple[int, int]]:
    """Encode images to the last layer's patches.

    Args:
        tower: the vision tower.
        pixel_values: (N, 3, height, width) of any whole number of patches; the position embeddings are interpolated
            if the size is not the tower's own.
        config: configuration of the model.

    Returns:
        patches_NPV and the (rows, columns) of their grid.

    Raises:
        ValueError: the size is not a whole number of patches, or the tower returns fewer tokens than patches.
    """
    tokens_NLV, (rows, columns) = encode_tokens(tower, pixel_values, config)
    # Class and register tokens, if the tower has them, come first.
    num_extra_tokens = tokens_NLV.shape[1] - rows * columns
    if num_extra_tokens < 0:
        raise ValueError(f"The vision tower returned {tokens_NLV.shape[1]} tokens for {rows} x {columns} patches")
    return tokens_NLV[:, num_extra_tokens:], (rows, columns)


def encode_tokens(
    tower: Any, pixel_values: torch.Tensor, config: MM1Config, attention_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Encode images to all tokens of the last layer.

    Args:
        tower: the vision tower.
        pixel_values: as in `encode_patches`.
        config: configuration of the model.
        attention_mask: mask_N1LL, True where a token (row) attends to another, for towers that take one; by default all
            tokens attend to each other.

    Returns:
        tokens_NLV and the (rows, columns) of the grid of the patches, which are the last tokens.

    Raises:
        ValueError: the size is not a whole number of patches.
    """
    height, width = pixel_values.shape[-2:]
    patch_height, patch_width = config.patch_size
    if height % patch_height or width % patch_width:
        raise ValueError(
            f"pixel_values are {height} x {width}, which is not a whole number of patches of {patch_height} x {patch_width}"
        )
    options: dict[str, Any] = {} if attention_mask is None else {"attention_mask": attention_mask}
    if (height, width) != config.image_size and _interpolates(tower):
        options["interpolate_pos_encoding"] = True
    tokens_NLV = tower(pixel_values=pixel_values.to(tower.dtype), **options).last_hidden_state
    return tokens_NLV, (height // patch_height, width // patch_width)


def _interpolates(tower: nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
