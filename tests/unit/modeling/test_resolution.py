"""MM1's first way to a higher resolution: positions of 336 px are interpolated to 448, 560 and 672 px, as transformers does."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

from mm1.modeling.configuration import MM1Config
from mm1.modeling.connectors import build_connector
from mm1.modeling.vision import encode_patches, keep_patches_only

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "patch_size": 14}
TOWERS = {
    "clip": (CLIPVisionModel, CLIPVisionConfig(image_size=336, **SIZES), 1),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(image_size=336, **SIZES), 0),
}


def config_of(vision):
    text = {"model_type": "qwen3", "hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 8}
    return MM1Config(vision_config=vision.to_dict(), text_config=text, connector_hidden_size=8, connector_depth=1)


@pytest.mark.parametrize("side", [336, 448, 560, 672])
@pytest.mark.parametrize("name", TOWERS)
def test_the_tower_interpolates_as_transformers_does(name, side):
    kind, vision, extra = TOWERS[name]
    torch.manual_seed(0)
    tower = kind(vision).eval()
    pixels = torch.randn(1, 3, side, side)
    with torch.no_grad():
        expected = tower(pixels, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states[-1][:, extra:]
        patches, grid = encode_patches(keep_patches_only(tower), pixels, config_of(vision))
    assert grid == (side // 14, side // 14)
    if name == "siglip":  # its last layer is normalised, which CLIP does for the class token alone
        expected = tower.post_layernorm(expected)
    torch.testing.assert_close(patches, expected)


@pytest.mark.parametrize("side", [336, 448, 560, 672])
def test_the_c_abstractor_interpolates_its_positions_in_the_same_way(side):
    vision = TOWERS["clip"][1]
    connector, embeddings = build_connector(config_of(vision)), CLIPVisionEmbeddings(vision)
    positions_hwV = torch.randn(24, 24, 8)
    with torch.no_grad():
        connector.positions_hwV.copy_(positions_hwV)
        embeddings.position_embedding.weight[1:] = positions_hwV.flatten(0, 1)
        rows = side // 14
        expected = embeddings.interpolate_pos_encoding(torch.empty(1, rows * rows + 1, 8), side, side)[0, 1:]
        torch.testing.assert_close(connector._positions((rows, rows)).flatten(0, 1), expected)
        features = connector(torch.randn(1, rows * rows, 8), (rows, rows))
    assert features.shape == (1, 144, 16), "an image takes 144 tokens at every resolution"
