"""Forward passes with a key-value cache, for generation and scoring.

A `DecodingState` is a batch of sequences processed so far. `extend` processes more tokens of each, left-padded. Padding can be
anywhere, since the state includes the mask and positions count only real tokens. So a shared prefix is processed once,
`select` gives each request its row, and `extend` processes the requests' own parts::

    prefixes -> extend -> select (rows repeated) -> extend(prompts) -> extend(one token each) -> ...

Names of dimensions: B sequences, S tokens of this pass (with padding), K tokens in the cache after it, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class DecodingState:
    """Sequences processed so far."""

    logits: torch.Tensor
    """Logits (B, S, V) of the last pass: its last position only, unless all were requested."""
    cache: Any
    """transformers' key-value cache."""
    mask: torch.Tensor
    """(B, K): 1 for tokens, 0 for padding."""

    @property
    def next_logits(self) -> torch.Tensor:
        """Logits (B, V) of the next token."""
        return self.logits[:, -1]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be repeated."""
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]
        self.logits = self.logits[index]


@torch.inference_mode()
def extend(
    model: Any,
    tokens: Sequence[Sequence[int]],
    image_features: torch.Tensor | None = None,
    state: DecodingState | None = None,
    *,
    all_logits: bool = False,
    num_tokens: int | None = None,
) -> DecodingState:
    """Process more tokens of each sequence.

    Args:
        model: an `MM1ForConditionalGeneration`.
        tokens: token ids of each sequence, of any lengths (at least one is not empty).
        image_features: (N, K, D) of the images in them, row by row.
        state: state of the previous tokens; this call modifies its cache.
        all_logits: whether to keep the logits of all positions of this pass, not only of the last one.
        num_tokens: ids that the tokenizer has; logits of the rows beyond, which belong to no token, are dropped.
    """
    length = max(map(len, tokens))
    padding = 1 if model.config.image_token_id == 0 else 0  # any id except the image token's, which needs features
    ids_BS = torch.full((len(tokens), length), padding)
    mask_BS = torch.zeros(len(tokens), length, dtype=torch.long)
    for row, ids in enumerate(tokens):
        if ids:
            ids_BS[row, length - len(ids) :] = torch.tensor(ids)
            mask_BS[row, length - len(ids) :] = 1
    mask_BK = mask_BS if state is None else torch.cat([state.mask.cpu(), mask_BS], dim=1)
    positions_BS = (mask_BK.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
    device = model.device
    output = model(
        input_ids=ids_BS.to(device),
        attention_mask=mask_BK.to(device),
        position_ids=positions_BS.to(device),
        image_features=image_features,
        past_key_values=None if state is None else state.cache,
        use_cache=True,
        logits_to_keep=0 if all_logits else 1,
    )
    return DecodingState(output.logits[..., :num_tokens].float(), output.past_key_values, mask_BK.to(device))
