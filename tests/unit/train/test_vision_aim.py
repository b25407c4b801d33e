"""The prediction of patches by a vision tower: what each patch sees, the loss against a slow reference, prefixes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mm1.errors import ConfigurationError
from mm1.train.config import AimConfig
from mm1.train.vision.aim import AimModel, prefix_mask, prefixes
from tests.support.tiny_model import tiny_model

PATCHES, SIDE = 16, 4


def aim_model(vision: str = "clip", side_px: int = 16) -> AimModel:
    whole = tiny_model(vision=vision)
    torch.manual_seed(1)
    return AimModel(whole, AimConfig(head_layers=2), side_px)


def images(number: int, side_px: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 3, side_px, side_px, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("vision", ["clip", "siglip"])
@pytest.mark.parametrize("prefix", [1, 5, 15])
def test_a_patch_after_the_prefix_sees_no_later_patch(vision, prefix):
    made = aim_model(vision)
    mask = prefix_mask(torch.tensor([prefix]), PATCHES, made.num_others)
    _, before = made.encode(images(1), mask)
    for changed in range(prefix, PATCHES):
        pixels = images(1)
        row, column = divmod(changed, 4)
        pixels[:, :, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] += 1.0
        _, after = made.encode(pixels, mask)
        same = [torch.equal(before[0, place], after[0, place]) for place in range(PATCHES)]
        assert same == [place < changed for place in range(PATCHES)]


def test_patches_of_the_prefix_see_each_other():
    made = aim_model()
    mask = prefix_mask(torch.tensor([5]), PATCHES, made.num_others)
    _, before = made.encode(images(1), mask)
    pixels = images(1)
    pixels[:, :, SIDE : 2 * SIDE, :SIDE] += 1.0  # patch 4, the last of the prefix
    _, after = made.encode(pixels, mask)
    assert not any(torch.equal(before[0, place], after[0, place]) for place in range(PATCHES))


def test_images_of_a_batch_have_prefixes_of_their_own():
    mask = prefix_mask(torch.tensor([1, 3]), 4, num_others=1)
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0].tolist() == [[place <= max(row, 1) for place in range(5)] for row in range(5)]
    assert mask[1, 0].tolist() == [[place <= max(row, 3) for place in range(5)] for row in range(5)]


@pytest.mark.parametrize("side_px", [16, 24])
def test_the_loss_is_that_of_a_slow_reference(side_px):
    made, pixels = aim_model(side_px=side_px), images(3, side_px)
    across = side_px // SIDE
    number = across * across
    prefix = torch.tensor([1, number - 1, 7])
    losses = made(pixels, prefix)
    for image, first in enumerate(prefix.tolist()):
        mask = prefix_mask(torch.tensor([first]), number, made.num_others)
        _, patches = made.encode(pixels[image : image + 1], mask)
        expected = 0.0
        for place in range(first, number):
            row, column = divmod(place, across)
            target = pixels[image, :, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE].flatten()
            target = (target - target.mean()) / (target.var(correction=0) + 1e-6).sqrt()
            hidden = patches[0, place - 1]
            for block in made.head:
                hidden = hidden + block.down(nn.functional.gelu(block.up(block.norm(hidden))))
            expected += (made.pixels(made.head_norm(hidden)) - target).square().mean().item()
        assert losses[image].item() == pytest.approx(expected, rel=1e-4)


def test_predicting_the_mean_has_a_loss_of_one_per_patch():
    made = aim_model()
    nn.init.zeros_(made.pixels.weight)
    nn.init.zeros_(made.pixels.bias)
    prefix = torch.tensor([1, 9])
    torch.testing.assert_close(made(images(2), prefix), (PATCHES - prefix).float(), rtol=1e-4, atol=1e-4)


def test_prefixes_are_even_repeatable_and_other_ones_at_another_place():
    pixels = torch.randint(0, 256, (2000, 8, 8, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    places = torch.zeros(2000, dtype=torch.long)
    chosen = prefixes(pixels, places, PATCHES)
    counts = torch.bincount(chosen, minlength=PATCHES)
    assert counts[0] == 0 and counts[1:].min() > 90 and counts[1:].max() < 180  # 133 each, on average
    assert torch.equal(chosen, prefixes(pixels, places, PATCHES))
    assert torch.equal(chosen[5:8], prefixes(pixels[5:8], places[5:8], PATCHES))
    assert (chosen != prefixes(pixels, places + 1, PATCHES)).float().mean() > 0.8


def test_a_tower_that_applies_no_mask_is_refused():
    whole = tiny_model()
    original = whole.model.vision_tower.forward
    whole.model.vision_tower.forward = lambda attention_mask=None, **options: original(**options)
    with pytest.raises(ConfigurationError, match=r"clip_vision_model does not apply an attention mask: use model\.clip"):
        AimModel(whole, AimConfig(head_layers=1), 16)
