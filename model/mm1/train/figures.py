"""Figures of a step in progress: tensors on the device, which nothing in this module waits for.

    output of a micro-batch -> Figures, + Figures of the others -> one vector -> summed over processes -> Figures

Names of dimensions: B sequences, S tokens of a sequence, D documents of a sequence, M tokens that a router receives, K experts
of a token, X experts, L sparse layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mm1.data.load.collate import Batch


class Figures(NamedTuple):
    """Figures of a micro-batch, then summed over micro-batches, then over processes; all in float64."""

    losses: torch.Tensor
    """Sum of the next-token losses of each source."""
    predicted: torch.Tensor
    """Predicted tokens of each source."""
    source_tokens: torch.Tensor
    """Tokens without padding of each source."""
    tokens: torch.Tensor
    positions: torch.Tensor
    images: torch.Tensor
    pairs: torch.Tensor
    balance_loss: torch.Tensor
    z_loss: torch.Tensor
    loads: torch.Tensor
    """Tokens of each expert in each sparse layer (L, X); empty without experts."""
    squared_norm: torch.Tensor
    """Squared norm of the whole gradient after the last micro-batch, 0 before."""
    hits: torch.Tensor
    """Pairs of an image whose caption is the most similar one (1,); empty for objectives without pairs."""

    @classmethod
    def of(cls, batch: Batch, source_ids_B: torch.Tensor, output: Any, num_sources: int, experts_per_token: int) -> Figures:
        """Compute the figures of a micro-batch.

        Args:
            batch: model inputs, on the device.
            source_ids_B: source of each sequence, 0 to num_sources - 1.
            output: of the model.
            num_sources: sources of the mixture.
            experts_per_token: experts that each token is routed to; 0 for a dense decoder.
        """
        kept_BS = batch["document_ids"] != 0
        zero = torch.zeros((), dtype=torch.float64, device=kept_BS.device)
        by_source = zero.expand(num_sources)
        has_router = bool(output.router_logits)
        return cls(
            losses=by_source.index_add(0, source_ids_B, output.sequence_loss.double()),
            predicted=by_source.index_add(0, source_ids_B, output.sequence_tokens.double()),
            source_tokens=by_source.index_add(0, source_ids_B, kept_BS.sum(dim=1, dtype=torch.float64)),
            tokens=kept_BS.sum(dtype=torch.float64),
            positions=zero + kept_BS.numel(),
            images=zero + (len(batch["pixel_values"]) if "pixel_values" in batch else 0),
            pairs=seen_pairs(batch["document_ids"]).double(),
            balance_loss=output.balance_loss.detach().double() if has_router else zero,
            z_loss=output.z_loss.detach().double() if has_router else zero,
            loads=expert_loads(output.router_logits, kept_BS, experts_per_token) if has_router else zero.expand(0, 0),
            squared_norm=zero,
            hits=zero.expand(0) if getattr(output, "hits", None) is None else output.hits.double().reshape(1),
        )

    @property
    def loss_sum(self) -> float:
        """Sum of the losses over the sources."""
        return sum(self.losses.tolist())

    def plus(self, other: Figures) -> Figures:
        """Add other figures."""
        return Figures(*map(torch.add, self, other))

    def flat(self) -> torch.Tensor:
        """Return all figures as one vector."""
        return torch.cat([tensor.flatten() for tensor in self])

    def with_values(self, flat: torch.Tensor) -> Figures:
        """Return figures of this form with the values of a flat vector."""
        parts = flat.split([tensor.numel() for tensor in self])
        return Figures(*(part.view(tensor.shape) for part, tensor in zip(parts, self, strict=True)))


def seen_pairs(document_ids_BS: torch.Tensor) -> torch.Tensor:
    """Count the pairs of tokens that attend to each other: L (L + 1) / 2 in a document of L tokens; 0 marks padding."""
    rows, columns = document_ids_BS.shape
    lengths_BD = torch.zeros(rows, columns + 1, dtype=torch.int64, device=document_ids_BS.device)
    lengths_BD.scatter_add_(1, document_ids_BS.long(), (document_ids_BS != 0).long())
    return (lengths_BD * (lengths_BD + 1) // 2).sum()


def expert_loads(router_logits: Sequence[torch.Tensor], kept_BS: torch.Tensor, experts_per_token: int) -> torch.Tensor:
    """Count the tokens that are routed to each expert.

    Args:
        router_logits: (M, X) scores of each sparse layer, M = B * S.
        kept_BS: True for tokens that are not padding.
        experts_per_token: K.

    Returns:
        loads_LX in float64.
    """
    kept_MK = kept_BS.flatten().double()[:, None].expand(-1, experts_per_token)
    loads = []
    for logits_MX in router_logits:
        chosen_MK = logits_MX.detach().topk(experts_per_token, dim=-1).indices
        loads.append(kept_MK.new_zeros(logits_MX.shape[-1]).index_add_(0, chosen_MK.flatten(), kept_MK.flatten()))
    return torch.stack(loads)
