"""Sampling of the next token: greedy, or with a temperature from the most probable tokens.

Names of dimensions: B sequences, V vocabulary.
"""

from __future__ import annotations

import torch

from mm1.generation.config import Sampling


class TokenChooser:
    """Chooses one token per sequence; keeps the state of its random generator."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def __call__(self, logits_BV: torch.Tensor) -> list[int]:
        """Choose token ids, one per row."""
        if self.sampling.temperature == 0:
            return logits_BV.argmax(dim=-1).tolist()
        # Sampled on the CPU, so that a seed gives the same tokens on every device.
        probabilities_BV = (logits_BV.cpu() / self.sampling.temperature).softmax(dim=-1)
        if self.sampling.top_p < 1:
            sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True)
            before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
            sorted_BV[before_BV >= self.sampling.top_p] = 0
            probabilities_BV = torch.zeros_like(probabilities_BV).scatter(-1, order_BV, sorted_BV)
        return torch.multinomial(probabilities_BV, 1, generator=self._random)[:, 0].tolist()
