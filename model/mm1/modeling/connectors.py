"""The three vision-language connectors of MM1: average pool, attention pool, C-Abstractor.

Each converts the patches of an image to a fixed number of embeddings of the decoder's width:

    patches_NPV, grid (h, w) with h * w = P  ->  features_NKD

All pooling is adaptive, so any square token count works with any patch grid (also a non-square one): at 378 pixels
and patch 14 the grid is 27 x 27, which no integer stride reduces to 12 x 12 (paper, section 4).

Names of dimensions:
    N images, P patches of an image, h w rows and columns of the patch grid, V width of the vision tower,
    C width of the C-Abstractor, K image tokens, k side of the token square, D width of the decoder
"""

import math
from typing import assert_never

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN

from .configuration import MM1Config


class AveragePoolConnector(nn.Module):
    """Adaptive average pool of the patches, then one linear projection (as in Emu2)."""

    def __init__(self, config: MM1Config) -> None:
        super().__init__()
        self.side = math.isqrt(config.image_tokens)
        self.projection = nn.Linear(config.vision_config.hidden_size, config.text_config.hidden_size)

    def forward(self, patches_NPV: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return features_NKD for the patches of a (rows, columns) grid."""
        maps_NhwV = patches_NPV.unflatten(1, grid)
        return self.projection(adaptive_average_pool(maps_NhwV, self.side).flatten(1, 2))


class AttentionPoolConnector(nn.Module):
    """Attention of learned queries, one for each image token, to the patches."""

    def __init__(self, config: MM1Config) -> None:
        super().__init__()
        vision_size, text_size = config.vision_config.hidden_size, config.text_config.hidden_size
        if text_size % config.connector_num_heads:
            raise ValueError(
                f"connector_num_heads ({config.connector_num_heads}) does not divide the decoder's width ({text_size})"
            )
        self.queries_KD = nn.Parameter(torch.empty(config.image_tokens, text_size))
        self.norm = nn.LayerNorm(vision_size)
        self.attention = nn.MultiheadAttention(
            text_size, config.connector_num_heads, kdim=vision_size, vdim=vision_size, batch_first=True
        )

    def forward(self, patches_NPV: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return features_NKD; the grid is ignored, because the tower's patches contain position embeddings."""
        patches_NPV = self.norm(patches_NPV)
        queries_NKD = self.queries_KD.expand(patches_NPV.shape[0], -1, -1)
        features_NKD, _ = self.attention(queries_NKD, patches_NPV, patches_NPV, need_weights=False)
        return features_NKD


class SqueezeExcite(nn.Module):
    """Channel gates computed from the mean over the map."""

    def __init__(self, channels: int, squeezed_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed_channels)
        self.expand = nn.Linear(squeezed_channels, channels)

    def forward(self, maps_NhwC: torch.Tensor) -> torch.Tensor:
        """Return the maps, each channel scaled by its gate."""
        squeezed_NC = self.reduce(maps_NhwC.mean(dim=(1, 2)))
        gates_NC = torch.sigmoid(self.expand(F.silu(squeezed_NC)))
        return maps_NhwC * gates_NC[:, None, None]


class RegNetBlock(nn.Module):
    """RegNet bottleneck of ratio 1 as in the C-Abstractor, which uses timm's, on channels-last maps.

    1x1 convolution, 3x3 depthwise convolution, squeeze-excite with a quarter of the *input* channels, 1x1
    convolution, residual add, activation after the add. Norms are over the channels of each position
    (timm's LayerNorm2d, eps 1e-6), the activation is SiLU. A 1x1 convolution on channels-last maps is a linear layer
    and LayerNorm2d is the plain LayerNorm, which saves all but two transpositions per block.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Linear(in_channels, out_channels, bias=False)
        self.norm1 = nn.LayerNorm(out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, groups=out_channels, bias=False)
        self.norm2 = nn.LayerNorm(out_channels, eps=1e-6)
        self.squeeze_excite = SqueezeExcite(out_channels, max(1, round(0.25 * in_channels)))
        self.conv3 = nn.Linear(out_channels, out_channels, bias=False)
        self.norm3 = nn.LayerNorm(out_channels, eps=1e-6)
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(nn.Linear(in_channels, out_channels, bias=False), nn.LayerNorm(out_channels, eps=1e-6))
        )

    def forward(self, maps_NhwC: torch.Tensor) -> torch.Tensor:
        """Return the maps after the block, with `out_channels` channels."""
        inner_NhwC = F.silu(self.norm1(self.conv1(maps_NhwC)))
        inner_NhwC = self.conv2(inner_NhwC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        inner_NhwC = F.silu(self.norm2(inner_NhwC))
        inner_NhwC = self.norm3(self.conv3(self.squeeze_excite(inner_NhwC)))
        return F.silu(inner_NhwC + self.shortcut(maps_NhwC))


class CAbstractorConnector(nn.Module):
    """C-Abstractor of Honeybee: RegNet blocks, adaptive average pool, RegNet blocks, MLP.

    A learned position embedding for each patch is added before the blocks; it is interpolated if the grid is not the
    vision tower's native one.
    """

    def __init__(self, config: MM1Config) -> None:
        super().__init__()
        vision_size, text_size = config.vision_config.hidden_size, config.text_config.hidden_size
        width, depth = config.connector_hidden_size, config.connector_depth
        (height, image_width), (patch_height, patch_width) = config.image_size, config.patch_size
        self.side = math.isqrt(config.image_tokens)
        self.positions_hwV = nn.Parameter(torch.empty(height // patch_height, image_width // patch_width, vision_size))
        self.stage1 = nn.Sequential(RegNetBlock(vision_size, width), *(RegNetBlock(width, width) for _ in range(1, depth)))
        self.stage2 = nn.Sequential(*(RegNetBlock(width, width) for _ in range(depth)))
        readout: list[nn.Module] = [nn.Linear(width, text_size)]
        for _ in range(1, config.connector_mlp_depth):
            readout += [ACT2FN["silu"], nn.Linear(text_size, text_size)]
        self.readout = nn.Sequential(*readout)

    def forward(self, patches_NPV: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return features_NKD for the patches of a (rows, columns) grid."""
        maps_NhwV = patches_NPV.unflatten(1, grid) + self._positions(grid)
        maps_NhwC = adaptive_average_pool(self.stage1(maps_NhwV), self.side)
        return self.readout(self.stage2(maps_NhwC).flatten(1, 2))

    def _positions(self, grid: tuple[int, int]) -> torch.Tensor:
        if grid == tuple(self.positions_hwV.shape[:2]):
            return self.positions_hwV
        positions_1Vhw = self.positions_hwV.permute(2, 0, 1)[None]
        return F.interpolate(positions_1Vhw, grid, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)


def adaptive_average_pool(maps_NhwC: torch.Tensor, side: int) -> torch.Tensor:
    """Average channels-last maps to a square of `side` x `side` positions.

    Windows of equal size (both sides of the grid divide evenly) are a plain mean, which is several times faster on a
    CPU than torch's adaptive pooling; both give the same values.
    """
    _, rows, columns, _ = maps_NhwC.shape
    if (rows, columns) == (side, side):
        return maps_NhwC
    if rows % side == 0 and columns % side == 0:
        return maps_NhwC.unflatten(2, (side, -1)).unflatten(1, (side, -1)).mean(dim=(2, 4))
    return F.adaptive_avg_pool2d(maps_NhwC.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)


def build_connector(config: MM1Config) -> nn.Module:
    """Build the connector that the configuration names, called as `connector(patches_NPV, grid) -> features_NKD`."""
    match config.connector_type:
        case "average_pool":
            return AveragePoolConnector(config)
        case "attention_pool":
            return AttentionPoolConnector(config)
        case "c_abstractor":
            return CAbstractorConnector(config)
        case _:
            assert_never(config.connector_type)


@torch.no_grad()
def init_connector_weights(module: nn.Module) -> bool:
    """Initialise modules that the general rule of transformers does not cover or handles badly.

    Embedding-like parameters follow Honeybee (truncated normal, 0.02). Depthwise convolutions keep torch's rule: 9
    inputs need larger weights than a normal of 0.02.

    Args:
        module: any module; only those of connectors are changed.

    Returns:
        Whether this function has initialised the module.
    """
    if isinstance(module, CAbstractorConnector):
        init.trunc_normal_(module.positions_hwV, std=0.02)
        return True
    if isinstance(module, AttentionPoolConnector):
        init.trunc_normal_(module.queries_KD, std=0.02)
        return True
    if isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels:
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        return True
    return False
