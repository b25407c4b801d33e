"""Towers in open_clip's layout against a forward pass written from torch's own attention, as open_clip builds it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import tiny_config

SIDE, PATCH, WIDTH, LAYERS = 24, 4, 48, 2


class QuickGelu(nn.Module):
    def forward(self, hidden):
        return hidden * torch.sigmoid(1.702 * hidden)


class Block(nn.Module):
    def __init__(self, heads, ffn, activation, eps):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH, eps), nn.LayerNorm(WIDTH, eps)
        self.attn = nn.MultiheadAttention(WIDTH, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(WIDTH, ffn))
        self.mlp.add_module("gelu", activation)
        self.mlp.add_module("c_proj", nn.Linear(ffn, WIDTH))

    def forward(self, hidden):
        normed = self.ln_1(hidden)
        hidden = hidden + self.attn(normed, normed, normed, need_weights=False)[0]
        return hidden + self.mlp(self.ln_2(hidden))


class Visual(nn.Module):
    """The tower of open_clip, up to the last block."""

    def __init__(self, heads=3, ffn=4 * WIDTH, activation=None, eps=1e-5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH, eps), nn.LayerNorm(WIDTH, eps)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block(heads, ffn, activation or nn.GELU(), eps) for _ in range(LAYERS)))
        self.proj = nn.Parameter(torch.randn(WIDTH, 16))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)  # norms and biases, too, so that a wrong place shows

    def forward(self, pixels):
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        return self.transformer.resblocks(self.ln_pre(tokens + self.positional_embedding))


FORMS = {
    # name: fields of vision_cfg, fields of model_cfg, arguments of the reference
    "quick_gelu": ({"head_width": 16}, {"quick_gelu": True}, {"activation": QuickGelu()}),
    "gelu": ({"head_width": 8, "mlp_ratio": 2.5, "patch_dropout": 0.5}, {}, {"heads": 6, "ffn": 120}),
    "custom text": (
        {"head_width": 24, "norm_kwargs": {"eps": 1e-2}, "act_kwargs": {"approximate": "tanh"}, "pool_type": "avg"},
        {"custom_text": True, "quick_gelu": False},
        {"heads": 2, "activation": nn.GELU("tanh"), "eps": 1e-2},
    ),
}


def write(folder, visual, vision_fields=None, model_fields=None):
    folder.mkdir(exist_ok=True)
    vision = {
        "image_size": SIDE,
        "layers": LAYERS,
        "width": WIDTH,
        "patch_size": PATCH,
        "head_width": 16,
        **(vision_fields or {}),
    }
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {"width": 8}, **(model_fields or {})}
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    state = {f"visual.{name}": tensor for name, tensor in visual.state_dict().items()}
    text = {
        "logit_scale": torch.ones(()),
        "positional_embedding": torch.ones(2, 8),
        "transformer.resblocks.0.ln_1.bias": torch.ones(8),
    }
    save_file(state | text, folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


def from_folder(folder):
    fields = {"image_tokens": 4, "connector_type": "average_pool", "text_config": tiny_config().text_config}
    return MM1ForConditionalGeneration.from_parts(folder, None, **fields).eval()


@pytest.mark.parametrize("form", FORMS)
def test_the_tower_gives_the_same_numbers(tmp_path, form):
    vision_fields, model_fields, arguments = FORMS[form]
    torch.manual_seed(0)
    visual = Visual(**arguments).eval()
    model = from_folder(write(tmp_path, visual, vision_fields, model_fields))
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        found, wanted = model.model.vision_tower(pixels).last_hidden_state, visual(pixels)
    # Queries, keys and values are three products here and one there, which may round in another way.
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.abs().max() > 1
    assert model.get_image_features(torch.randn(1, 3, 2 * SIDE, SIDE)).shape == (1, 4, 32)
    assert model.config.image_size == (SIDE, SIDE) and model.config.patch_size == (PATCH, PATCH)


def test_a_whole_model_from_such_a_tower_is_an_ordinary_one(tmp_path):
    model = from_folder(write(tmp_path / "open_clip", Visual()))
    model.save_pretrained(tmp_path / "whole")
    pixels = torch.randn(1, 3, SIDE, SIDE)
    again = MM1ForConditionalGeneration.from_pretrained(tmp_path / "whole").eval()
    assert torch.equal(again.get_image_features(pixels), model.get_image_features(pixels))


def test_towers_of_another_kind_are_refused(tmp_path):
    def refused(pattern, visual=None, **vision_fields):
        with pytest.raises(ValueError, match=pattern):
            from_folder(write(tmp_path, visual or Visual(), vision_fields))

    refused("tower of timm .vit_base.*layout of transformers", timm_model_name="vit_base")
    scaled = Visual()
    scaled.transformer.resblocks[0].ls_1 = nn.LayerNorm(4)
    refused(r"has visual\.transformer\.resblocks\.0\.ls_1\.\w+, so it is not the plain ViT", scaled)
    without = Visual()
    del without.ln_pre
    refused(r"lacks visual\.ln_pre\.bias", without)
    refused("image_size=32 in .*37 positions", image_size=32)
    refused("image_size=.24, 48.*only square", image_size=[24, 48])
    refused("head_width=7 .* does not divide the width of the weights, 48", head_width=7)
    refused("act_kwargs=.*cannot be converted", act_kwargs={"beta": 2})


def test_a_tower_with_weights_missing_is_refused(tmp_path):
    path = write(tmp_path, Visual()) / "open_clip_model.safetensors"
    state = load_file(path)
    del state["visual.transformer.resblocks.1.mlp.c_fc.bias"]
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of its configuration \(encoder\.layers\.1\.mlp\.fc1\.bias\)"):
        from_folder(tmp_path)


def test_a_configuration_without_a_tower_is_refused(tmp_path):
    write(tmp_path, Visual())
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ValueError, match="no model_cfg with a vision_cfg"):
        from_folder(tmp_path)
