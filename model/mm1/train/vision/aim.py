"""AIM (arXiv 2401.08541): a vision tower predicts the pixels of each next patch, in raster order, from the patches before it.

    pixel_values, prefix_N -> tower, prefix attention -> patches_NPV -> head -> predicted pixels of patches 1 .. P
    pixel_values -> targets_NPC: pixels of each patch, with mean 0 and variance 1 -> mean squared error of the patches after the
        prefix

With prefix attention the first patches of an image, a random number of them, attend to each other, so that the tower learns
the attention over whole images that it will have in MM1; the others attend to the patches before them. Tokens that are no
patches, such as a class token, belong to the prefix.

Names of dimensions: N images, P patches of an image, L tokens of the tower (those before the patches included), V width of the
tower, C numbers of a patch's pixels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mm1.errors import ConfigurationError
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import AimConfig
from mm1.train.vision.tower import TowerModel

EPSILON = 1e-6
"""Added to the variance of a patch's pixels."""
PREFIX_FACTOR = 2_654_435_761
"""Spreads the prefixes of similar images (Knuth's multiplicative hashing)."""


class MlpBlock(nn.Module):
    """A residual feed-forward block of the head, four times as wide inside.

    Args:
        width: V.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Transform each patch by itself."""
        return hidden + self.down(F.gelu(self.up(self.norm(hidden))))


class AimModel(TowerModel):
    """A vision tower and the head that predicts pixels.

    Args:
        whole: the MM1 model; its tower is trained.
        aim: depth of the head.
        image_size_px: side of the images.

    Raises:
        ConfigurationError: the tower cannot have prefix attention.
    """

    def __init__(self, whole: MM1ForConditionalGeneration, aim: AimConfig, image_size_px: int) -> None:
        super().__init__(whole)
        height, width = whole.config.patch_size
        self.num_patches = (image_size_px // height) * (image_size_px // width)
        self.head = nn.Sequential(*(MlpBlock(self.width) for _ in range(aim.head_layers)))
        self.head_norm = nn.LayerNorm(self.width)
        self.pixels = nn.Linear(self.width, 3 * height * width)
        self.num_others = self._count_others(image_size_px)

    @torch.no_grad()
    def _count_others(self, image_size_px: int) -> int:
        """Count the tower's tokens that are no patches, after a check that it applies the mask."""
        side = max(self.config.patch_size)
        images = torch.zeros(2, 3, image_size_px, image_size_px)
        images[1, :, -side:, -side:] = 1.0  # they differ in the last patch only
        num_others = self.encode(images)[0].shape[1]
        mask = prefix_mask(torch.ones(2, dtype=torch.long), self.num_patches, num_others)
        try:
            _, patches_NPV = self.encode(images, mask)
            blind = torch.equal(patches_NPV[0, :-1], patches_NPV[1, :-1])
        except (TypeError, RuntimeError):
            blind = False
        if not blind:
            kind = self.config.vision_config.model_type
            raise ConfigurationError(
                f"model.aim: a tower of type {kind} does not apply an attention mask: use model.clip, or the tower of a recipe"
            )
        return num_others

    def forward(self, pixel_values: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        """Compute the sum of the losses of each image's patches after the prefix.

        Args:
            pixel_values: (N, 3, height, width).
            prefix: prefix_N, patches that attend to each other, 1 to P - 1.

        Returns:
            losses_N in float32.
        """
        mask_N1LL = prefix_mask(prefix, self.num_patches, self.num_others)
        _, patches_NPV = self.encode(pixel_values, mask_N1LL)
        predicted_NPC = self.pixels(self.head_norm(self.head(patches_NPV[:, :-1])))
        losses_NP = F.mse_loss(predicted_NPC.float(), self.targets(pixel_values)[:, 1:], reduction="none").mean(dim=-1)
        after_P = torch.arange(1, self.num_patches, device=prefix.device)
        return (losses_NP * (after_P >= prefix[:, None])).sum(dim=1)

    def targets(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return targets_NPC, the pixels of each patch, with mean 0 and variance 1, in float32."""
        height, width = self.config.patch_size
        pixels_NCP = F.unfold(pixel_values.float(), (height, width), stride=(height, width))
        variance, mean = torch.var_mean(pixels_NCP, dim=1, keepdim=True, correction=0)
        return ((pixels_NCP - mean) / (variance + EPSILON).sqrt()).transpose(1, 2)


def prefix_mask(prefix_N: torch.Tensor, num_patches: int, num_others: int) -> torch.Tensor:
    """Return mask_N1LL, True where a token (row) attends to another (column).

    Args:
        prefix_N: patches of each image that all tokens attend to.
        num_patches: P.
        num_others: tokens before the patches, which belong to the prefix.
    """
    places_L = torch.arange(num_others + num_patches, device=prefix_N.device)
    in_prefix_N11L = (places_L < (prefix_N + num_others)[:, None])[:, None, None, :]
    return (places_L[None, :] <= places_L[:, None]) | in_prefix_N11L


def prefixes(pixels_NPP3: torch.Tensor, places_N: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Choose the prefix of each image, evenly from 1 to P - 1: a pure function of the image and its place in its sequence.

    So it is the same on any number of ranks and after a resume, and another one when the image comes again.

    Args:
        pixels_NPP3: uint8 images, on the host; about a thousand of their numbers count.
        places_N: a number for the place of each image.
        num_patches: P.
    """
    flat = pixels_NPP3.reshape(len(pixels_NPP3), -1)
    flat = flat[:, :: max(flat.shape[1] // 1024, 1)].long()
    weights = torch.arange(1, flat.shape[1] + 1)
    mixed_N = ((flat * weights).sum(dim=1) + places_N + 1) * PREFIX_FACTOR
    return (mixed_N >> 16) % 2**31 % max(num_patches - 1, 1) + 1
