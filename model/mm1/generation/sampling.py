"""Choice of the next token: greedy, or with a temperature from the most probable tokens.

Each answer has a random generator of its own, so that the answer of a seed does not depend on what is generated with it.

Names of dimensions: B sequences, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mm1.generation.config import Sampling

Array = np.ndarray


class TokenChooser:
    """Chooses the tokens of one answer; keeps the state of its random generator."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        # Any integer is a seed: negative ones as their 64 bits.
        self._random = np.random.default_rng(None if sampling.seed is None else sampling.seed % 2**64)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is chosen."""
        return self.sampling.temperature == 0

    def sample(self, logits_V: Array) -> int:
        """Sample a token by logits, in float64: exact for any temperature and top_p above 0, however small."""
        with np.errstate(over="ignore", under="ignore"):  # far below the likeliest: minus infinity, a weight of 0
            weights_V = np.exp((logits_V.astype(np.float64) - logits_V.max()) / self.sampling.temperature)
        if self.sampling.top_p < 1:
            weights_V = _nucleus(weights_V, self.sampling.top_p)
        cumulative_V = weights_V.cumsum()
        token = int(cumulative_V.searchsorted(self._random.random() * cumulative_V[-1], side="right"))
        return min(token, int(weights_V.nonzero()[0][-1]))


def _nucleus(weights_V: Array, top_p: float) -> Array:
    """Set all weights to 0 but those of the smallest set of tokens with at least a share of `top_p`."""
    total = weights_V.sum()
    # Tokens below this weight have less than 1 - top_p together, so the set is among the others: few to sort.
    candidates_C = (weights_V >= total * (1 - top_p) / len(weights_V)).nonzero()[0]
    order_C = candidates_C[np.argsort(-weights_V[candidates_C], kind="stable")]
    sorted_C = weights_V[order_C]
    kept_C = order_C[sorted_C.cumsum() - sorted_C < top_p * total]
    kept_C = kept_C if len(kept_C) else order_C[:1]
    nucleus_V = np.zeros_like(weights_V)
    nucleus_V[kept_C] = weights_V[kept_C]
    return nucleus_V


def choose(logits_BV: torch.Tensor, choosers: Sequence[TokenChooser]) -> list[int]:
    """Choose one token per row.

    Raises:
        ArithmeticError: a logit is not a number.
    """
    best_B, tokens_B = logits_BV.max(dim=-1)
    if bool(best_B.isnan().any()):
        raise ArithmeticError("the model's logits are not numbers; its weights are damaged, or overflow in this dtype")
    tokens: list[int] = tokens_B.tolist()
    sampled = [row for row, chooser in enumerate(choosers) if not chooser.greedy]
    if sampled:
        # Sampled on the CPU, so that a seed gives the same tokens on every device.
        for row, logits_V in zip(sampled, logits_BV[sampled].cpu().numpy(), strict=True):
            tokens[row] = choosers[row].sample(logits_V)
    return tokens
