"""Loading of vision towers in open_clip's layout as CLIP towers of transformers.

    open_clip_config.json, open_clip_model.safetensors -> read_open_clip -> configuration and weights of a CLIPVisionModel

Both compute the same; only the names and the packing of attention differ. MM1's own encoder, ViT-H at 378 pixels trained on
DFN-5B (paper, section 4), is public in this layout.

| open_clip (`visual.`)                        | transformers                                |
|----------------------------------------------|---------------------------------------------|
| `conv1.weight`, `class_embedding`            | `embeddings.patch_embedding.weight`, …      |
| `positional_embedding`                       | `embeddings.position_embedding.weight`      |
| `ln_pre`, `ln_post`                          | `pre_layrnorm`, `post_layernorm`            |
| `transformer.resblocks.N.attn.in_proj_*`     | `encoder.layers.N.self_attn.{q,k,v}_proj.*` |
| `transformer.resblocks.N.{ln_1,ln_2,mlp.*}`  | `encoder.layers.N.{layer_norm1, …}`         |

Names of dimensions:
    T positions (patches and the class token), V width of the tower
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import load_state_dict_from_file
from transformers import CLIPVisionConfig

from .folders import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS

PREFIX = "visual."
# Weights after the last block that only serve the class token; MM1 uses the patches.
_UNUSED = re.compile(r"proj|ln_post\.|attn_pool")
_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_FIRST_FFN = "transformer.resblocks.0.mlp.c_fc.weight"
_PACKED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


def read_open_clip(folder: Path) -> tuple[CLIPVisionConfig, dict[str, torch.Tensor]]:
    """Read the vision tower of an open_clip folder.

    Args:
        folder: contains `open_clip_config.json` and `open_clip_model.safetensors`.

    Returns:
        Configuration and weights of a `CLIPVisionModel`.

    Raises:
        ValueError: the tower is of another kind (timm, ResNet), or has parts that transformers' CLIP lacks.
    """
    path = folder / OPEN_CLIP_CONFIG
    try:
        model_config = json.loads(path.read_text())["model_cfg"]
        vision = dict(model_config["vision_cfg"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"vision: {path} has no model_cfg with a vision_cfg: set a folder that open_clip saved") from None
    if vision.get("timm_model_name"):
        raise ValueError(
            f"vision: {path} names a tower of timm ({vision['timm_model_name']}), which is not supported: "
            "use the same model in the layout of transformers (config.json, model.safetensors), if available"
        )
    weights = load_state_dict_from_file(folder / OPEN_CLIP_WEIGHTS)
    visual = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items() if name.startswith(PREFIX)}
    state = convert_names(visual, path)
    return vision_config(state, vision, bool(model_config.get("quick_gelu")), path), state


def convert_names(visual: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Rename the weights of a tower, and split queries, keys and values (as views, not copies).

    Args:
        visual: weights by open_clip's names, without `visual.`.
        path: path of the configuration, for the message.

    Raises:
        ValueError: a CLIP tower of transformers lacks one of the weights, so it would compute something else.
    """
    state, unexpected = {}, []
    for name, tensor in visual.items():
        if name in _NAMES:
            state[_NAMES[name]] = tensor
        elif packed := _PACKED.fullmatch(name):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                state[f"encoder.layers.{packed[1]}.self_attn.{part}_proj.{packed[2]}"] = piece
        elif (block := _BLOCK.fullmatch(name)) and block[2] in _BLOCK_NAMES:
            state[f"encoder.layers.{block[1]}.{_BLOCK_NAMES[block[2]]}.{block[3]}"] = tensor
        elif not _UNUSED.match(name):
            unexpected.append(name)
    missing = sorted({*_NAMES, _FIRST_FFN} - visual.keys())
    if unexpected or missing:
        difference = f"has {PREFIX}{unexpected[0]}" if unexpected else f"lacks {PREFIX}{missing[0]}"
        raise ValueError(
            f"vision: the tower of {path.parent} {difference}, so it is not the plain ViT of CLIP, the only supported kind: "
            "use a folder in the layout of transformers (config.json, model.safetensors)"
        )
    return state


def vision_config(state: dict[str, torch.Tensor], vision: dict[str, Any], quick_gelu: bool, path: Path) -> CLIPVisionConfig:
    """Read the sizes of a tower from its weights, and the other settings from open_clip's configuration.

    Args:
        state: weights by transformers' names.
        vision: `vision_cfg` of open_clip; `patch_dropout` and the settings of pooling are ignored.
        quick_gelu: whether the activation is QuickGELU.
        path: path of the configuration, for the message.

    Raises:
        ValueError: the image size, the head width or the activation does not fit the weights or transformers.
    """
    kernel, positions_TV = state["embeddings.patch_embedding.weight"], state["embeddings.position_embedding.weight"]
    width, channels, patch_size, _ = kernel.shape
    side = vision.get("image_size", 224)
    height, columns = side if isinstance(side, (list, tuple)) else (side, side)
    if height != columns or (height // patch_size) ** 2 + 1 != positions_TV.shape[0]:
        raise ValueError(
            f"vision: image_size={side} in {path} does not fit the weights, which have {positions_TV.shape[0]} positions for "
            f"patches of {patch_size} pixels and the class token; only square images can be converted"
        )
    head_width = vision.get("head_width", 64)
    if width % head_width:
        raise ValueError(f"vision: head_width={head_width} in {path} does not divide the width of the weights, {width}")
    layers = {int(name.split(".")[2]) for name in state if name.startswith("encoder.layers.")}
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=width // head_width,
        num_channels=channels,
        image_size=height,
        patch_size=patch_size,
        hidden_act=_activation(quick_gelu, vision.get("act_kwargs") or {}, path),
        layer_norm_eps=(vision.get("norm_kwargs") or {}).get("eps", 1e-5),
    )


def _activation(quick_gelu: bool, options: dict[str, Any], path: Path) -> str:
    if not options:
        return "quick_gelu" if quick_gelu else "gelu"
    if not quick_gelu and options == {"approximate": "tanh"}:
        return "gelu_pytorch_tanh"
    raise ValueError(f"vision: the activation act_kwargs={options} in {path} cannot be converted")
