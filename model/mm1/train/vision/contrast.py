"""The contrastive loss of a global batch, and its gradient for each pair.

    pairs of all ranks -> similarities / temperature -> cross entropies over captions and over images -> losses, gradients

The gradient for the outputs of the towers is all that a micro-batch needs (GradCache, arXiv 2101.06983): the loss is that of
the global batch, on any number of ranks and micro-batches.

Names of dimensions: G pairs of the global batch, unused places included; E width of the space.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F


class Pool(NamedTuple):
    """All pairs of a global batch."""

    images: torch.Tensor
    """Images (G, E), of length 1."""
    texts: torch.Tensor
    """Captions (G, E), of length 1."""
    hashes: torch.Tensor
    """Hash of each caption (G,)."""
    used: torch.Tensor
    """True for places with a pair (G,)."""
    log_scale: torch.Tensor
    """Logarithm of 1 / temperature."""


class Contrast(NamedTuple):
    """Loss of each pair, and gradients of their mean over the used places."""

    losses: torch.Tensor
    """(G,): mean of the cross entropies over captions and over images; 0 for unused places."""
    hits: torch.Tensor
    """(G,): True if the most similar caption has the text of the own one."""
    image_gradient: torch.Tensor
    text_gradient: torch.Tensor
    scale_gradient: torch.Tensor


def pair_losses(pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of each pair, and whether its caption is found.

    Returns:
        losses_G and hits_G, 0 and False for unused places.
    """
    unused = torch.finfo(torch.float32).min
    logits_GG = pool.log_scale.exp() * pool.images @ pool.texts.T
    own_G = torch.arange(len(logits_GG), device=logits_GG.device)
    over_texts_GG = logits_GG.masked_fill(~pool.used[None, :], unused)
    over_images_GG = logits_GG.T.masked_fill(~pool.used[None, :], unused)
    texts_G, images_G = (F.cross_entropy(over_GG, own_G, reduction="none") for over_GG in (over_texts_GG, over_images_GG))
    best_G = over_texts_GG.detach().argmax(dim=1)
    return ((texts_G + images_G) / 2).masked_fill(~pool.used, 0.0), (pool.hashes[best_G] == pool.hashes) & pool.used


@torch.enable_grad()
def contrast(pool: Pool) -> Contrast:
    """Compute the loss of each pair and the gradients of the mean."""
    image_GE, text_GE, log_scale = (tensor.detach().requires_grad_() for tensor in (pool.images, pool.texts, pool.log_scale))
    losses_G, hits_G = pair_losses(pool._replace(images=image_GE, texts=text_GE, log_scale=log_scale))
    mean = losses_G.sum() / pool.used.sum().clamp(min=1)
    gradients = torch.autograd.grad(mean, (image_GE, text_GE, log_scale))
    return Contrast(losses_G.detach(), hits_G, *gradients)
