"""The connectors: every one of the registry runs, and MM1's are as published."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, Qwen3Config

from mm1.modeling.configuration import CONNECTOR_TYPES, MM1Config
from mm1.modeling.connectors import RegNetBlock, adaptive_average_pool, build_connector
from tests.support.tiny_model import tiny_config


def _config(vision_size=32, text_size=32, image_size=16, patch_size=4, **fields):
    vision = CLIPVisionConfig(hidden_size=vision_size, num_attention_heads=16, image_size=image_size, patch_size=patch_size)
    return MM1Config(vision_config=vision, text_config=Qwen3Config(hidden_size=text_size), **fields)


class _ReferenceBlock(nn.Module):
    """A RegNet bottleneck with the convolutions and two-dimensional norms of timm, on the weights of ours."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    @staticmethod
    def _pointwise(linear, maps):
        return F.conv2d(maps, linear.weight[:, :, None, None], linear.bias)

    @staticmethod
    def _norm(norm, maps):
        mean = maps.mean(dim=1, keepdim=True)
        variance = maps.var(dim=1, keepdim=True, unbiased=False)
        return (maps - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]

    def forward(self, maps):
        block, gate = self.block, self.block.squeeze_excite
        inner = F.silu(self._norm(block.norm1, self._pointwise(block.conv1, maps)))
        inner = F.conv2d(inner, block.conv2.weight, padding=1, groups=inner.shape[1])
        inner = F.silu(self._norm(block.norm2, inner))
        squeezed = F.silu(self._pointwise(gate.reduce, inner.mean(dim=(2, 3), keepdim=True)))
        inner = inner * torch.sigmoid(self._pointwise(gate.expand, squeezed))
        inner = self._norm(block.norm3, self._pointwise(block.conv3, inner))
        if not isinstance(block.shortcut, nn.Identity):
            maps = self._norm(block.shortcut[1], self._pointwise(block.shortcut[0], maps))
        return F.silu(inner + maps)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(16, 16), (16, 24)])
def test_the_block_is_timms_regnet_bottleneck(in_channels, out_channels):
    block = RegNetBlock(in_channels, out_channels)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    maps = torch.randn(2, 5, 7, in_channels)
    expected = _ReferenceBlock(block)(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(block(maps), expected, atol=1e-5, rtol=1e-4)
    assert block.squeeze_excite.reduce.out_features == in_channels // 4  # of the input channels, as timm has it


@pytest.mark.parametrize(
    ("vision_size", "text_size", "image_size", "patch_size", "millions"),
    [(1024, 4096, 336, 14, 37), (1280, 2560, 378, 14, 28), (1280, 4096, 378, 14, 39)],
)
def test_the_c_abstractor_has_the_size_of_the_paper(vision_size, text_size, image_size, patch_size, millions):
    with torch.device("meta"):
        connector = build_connector(_config(vision_size, text_size, image_size, patch_size))
    assert round(sum(parameter.numel() for parameter in connector.parameters()) / 1e6) == millions


@pytest.mark.parametrize("connector_type", CONNECTOR_TYPES)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (9, 2)])
@pytest.mark.parametrize("image_tokens", [1, 4, 9])
def test_any_grid_becomes_any_square_number_of_tokens(connector_type, grid, image_tokens):
    torch.manual_seed(0)
    connector = build_connector(tiny_config(connector_type, image_tokens=image_tokens))
    for parameter in connector.parameters():
        nn.init.normal_(parameter, std=0.1)
    patches = torch.randn(2, grid[0] * grid[1], 32, requires_grad=True)
    features = connector(patches, grid)
    assert features.shape == (2, image_tokens, 32)
    features[0].sum().backward()
    assert patches.grad[0].abs().min() > 0  # every patch counts
    assert patches.grad[1].abs().max() == 0  # and only in its own image


@pytest.mark.parametrize(("grid", "side"), [((4, 4), 2), ((27, 27), 12), ((6, 9), 3), ((5, 5), 5), ((2, 3), 4)])
def test_pooling_is_torchs_adaptive_pooling(grid, side):
    maps = torch.randn(2, *grid, 3)
    expected = F.adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    torch.testing.assert_close(adaptive_average_pool(maps, side), expected)


def test_average_pool_is_the_projected_mean_of_each_window_in_row_order():
    connector = build_connector(tiny_config("average_pool"))
    nn.init.eye_(connector.projection.weight)
    nn.init.zeros_(connector.projection.bias)
    patches = torch.arange(16.0)[None, :, None].expand(1, 16, 32)  # patch 4 * row + column
    assert connector(patches, (4, 4))[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]


def test_c_abstractor_positions_are_learned_for_the_grid_and_interpolated_for_others():
    connector = build_connector(tiny_config("c_abstractor"))
    nn.init.normal_(connector.positions_hwV)
    assert torch.equal(connector._positions((4, 4)), connector.positions_hwV)
    larger = connector._positions((8, 8))
    assert larger.shape == (8, 8, 32)
    nn.init.ones_(connector.positions_hwV)
    torch.testing.assert_close(connector._positions((7, 3)), torch.ones(7, 3, 32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_tokens": 5}, "image_tokens: .*got 5"),
        ({"image_tokens": 0}, "image_tokens: .*got 0"),
        ({"connector_depth": 0}, "connector_depth: .*got 0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


def test_an_unknown_connector_is_refused():
    with pytest.raises(Exception, match="c_abstractor"):
        tiny_config("resampler")


def test_heads_of_the_attention_pool_must_divide_the_width():
    with pytest.raises(ValueError, match="connector_num_heads"):
        build_connector(tiny_config("attention_pool", connector_num_heads=5))
