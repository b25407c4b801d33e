"""Losses of an MM1 model: next-token loss on labelled positions, balance loss and z-loss of the routers.

    hidden_BSD, labels_BS -> labelled positions only -> lm_head -> cross entropy (fp32) -> one number
    router logits of each sparse layer -> balance loss, z-loss

Only positions with a label go through the output layer. In captions a tenth of the positions have labels, and image
tokens have none, so this saves most of the largest matrix product and of the memory for logits.

Names of dimensions:
    B sequences of the batch, S tokens of a sequence, D width of the decoder, T labelled positions, W vocabulary,
    M tokens that a router receives, X experts, L sparse layers
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

IGNORED_LABEL = -100


@dataclass
class TokenLoss:
    """Next-token loss of a batch.

    Attributes:
        loss: sum over the labelled positions, divided by their number or by num_items_in_batch.
        sequence_loss: sum of each sequence (B,), detached; for reports.
        sequence_tokens: number of labelled positions of each sequence (B,).
    """

    loss: torch.Tensor
    sequence_loss: torch.Tensor
    sequence_tokens: torch.Tensor


def next_token_targets(labels_BS: torch.Tensor, document_ids_BS: torch.Tensor | None) -> torch.Tensor:
    """Shift labels so that each position has the label of the next token, except across a document boundary.

    Args:
        labels_BS: label of each token itself, -100 for none.
        document_ids_BS: document of each token, if documents are packed.

    Returns:
        targets_BS, -100 for positions without a target.
    """
    targets_BS = F.pad(labels_BS[:, 1:], (0, 1), value=IGNORED_LABEL)
    if document_ids_BS is not None:
        boundary_BS = document_ids_BS[:, 1:] != document_ids_BS[:, :-1]
        targets_BS[:, :-1].masked_fill_(boundary_BS, IGNORED_LABEL)
    return targets_BS


def next_token_loss(
    hidden_BSD: torch.Tensor,
    targets_BS: torch.Tensor,
    lm_head: nn.Module,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> TokenLoss:
    """Compute the cross entropy of the positions that have a target.

    Args:
        hidden_BSD: output of the decoder.
        targets_BS: target of each position, -100 for none.
        lm_head: output layer.
        num_items_in_batch: divisor of the sum, if the batch is a part of a larger one (gradient accumulation, several
            ranks); by default the number of targets in this batch.

    Returns:
        The loss. A batch without targets has zero loss and zero gradients, so that ranks stay synchronised.
    """
    sequences, positions = (targets_BS != IGNORED_LABEL).nonzero(as_tuple=True)
    losses_T = position_losses(hidden_BSD[sequences, positions], targets_BS[sequences, positions], lm_head)
    normaliser = max(losses_T.numel(), 1) if num_items_in_batch is None else num_items_in_batch
    zeros_B = losses_T.new_zeros(targets_BS.shape[0])
    return TokenLoss(
        loss=losses_T.sum() / normaliser,
        sequence_loss=zeros_B.index_add(0, sequences, losses_T.detach()),
        sequence_tokens=occurrences(sequences, targets_BS.shape[0]),
    )


def position_losses(hidden_TD: torch.Tensor, targets_T: torch.Tensor, lm_head: nn.Module) -> torch.Tensor:
    """Return the cross entropy losses_T of positions that all have a target."""
    return F.cross_entropy(_at_least_single(lm_head(hidden_TD)), targets_T, reduction="none")


def router_losses(
    router_logits: tuple[torch.Tensor, ...],
    token_mask_BS: torch.Tensor | None,
    shares_LX: torch.Tensor | None = None,
    num_tokens: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the balance loss and the z-loss of the sparse layers, each the mean over the layers.

    Balance, as in GShard and AXLearn (the library MM1 was trained with): number of experts times the sum over the
    experts of (share of tokens whose first choice it is) x (mean probability). It is 1 when balanced. z-loss, as in
    ST-MoE: mean of the squared logarithm of the sum of the exponentials (paper, section 4).

    Args:
        router_logits: (M, X) of each sparse layer, M = B * S.
        token_mask_BS: True for tokens that count, False for padding; all count by default.
        shares_LX: shares of the first choices in a larger batch, of which this one is a part; by default those of this batch.
        num_tokens: divisor of the sums over tokens, if this batch is a part of a larger one; by default the number of tokens
            that count in this batch.

    Returns:
        The two losses, not weighted. With the shares and the number of tokens of a larger batch, those of its parts add up to
        those of the larger batch.
    """
    balance, z_loss = [], []
    for number, logits_MX in enumerate(_counted(router_logits, token_mask_BS)):
        divisor = max(logits_MX.shape[0], 1) if num_tokens is None else num_tokens
        shares_X = _first_choices(logits_MX) / max(logits_MX.shape[0], 1) if shares_LX is None else shares_LX[number]
        mean_probability_X = logits_MX.softmax(dim=-1).sum(dim=0) / divisor
        balance.append(logits_MX.shape[1] * (shares_X * mean_probability_X).sum())
        z_loss.append(logits_MX.logsumexp(dim=-1).square().sum() / divisor)
    return torch.stack(balance).mean(), torch.stack(z_loss).mean()


def first_choices(router_logits: tuple[torch.Tensor, ...], token_mask_BS: torch.Tensor | None) -> torch.Tensor:
    """Count the tokens whose first choice is each expert: (L, X), L sparse layers.

    Args:
        router_logits: (M, X) of each sparse layer, M = B * S.
        token_mask_BS: True for tokens that count; all count by default.
    """
    return torch.stack([_first_choices(logits_MX) for logits_MX in _counted(router_logits, token_mask_BS)])


def _counted(router_logits: tuple[torch.Tensor, ...], token_mask_BS: torch.Tensor | None) -> Iterator[torch.Tensor]:
    """Yield the logits of each layer, of the tokens that count."""
    kept = None if token_mask_BS is None else token_mask_BS.flatten().nonzero().flatten()
    for layer_MX in router_logits:
        logits_MX = _at_least_single(layer_MX.reshape(-1, layer_MX.shape[-1]))
        yield logits_MX if kept is None else logits_MX[kept]


def _first_choices(logits_MX: torch.Tensor) -> torch.Tensor:
    return occurrences(logits_MX.detach().argmax(dim=-1), logits_MX.shape[1])


def occurrences(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Count how often each of the indices 0 to size - 1 occurs; unlike `bincount`, without waiting for a GPU."""
    return indices.new_zeros(size).index_add_(0, indices, torch.ones_like(indices))


def _at_least_single(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
