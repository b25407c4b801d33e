"""A model of this project in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mm1.evals.models.base import OnBatch
from mm1.generation.generator import Generator
from mm1.generation.prompt import AnyPrompt, Completion, Image, Likelihood


@dataclass(frozen=True)
class OwnModel:
    """An MM1 model."""

    generator: Generator
    name: str = "mm1"
    can_score: bool = True

    def generate(
        self, asks: Sequence[AnyPrompt], *, max_new_tokens: int, stop: Sequence[str] = (), on_batch: OnBatch | None = None
    ) -> list[Completion]:
        """Continue each prompt greedily."""
        return self.generator.generate(asks, max_new_tokens=max_new_tokens, stop=stop, on_batch=on_batch)

    def score(
        self, asks: Sequence[AnyPrompt], continuations: Sequence[Sequence[str]], on_batch: OnBatch | None = None
    ) -> list[list[Likelihood]]:
        """Compute the log-likelihood of each continuation of each prompt."""
        return self.generator.score(asks, continuations, on_batch)

    def embed_images(self, images: Sequence[Image]) -> np.ndarray | None:
        """Compute the mean of each image's features."""
        features_NKD = self.generator.encoder.features(images)
        return None if features_NKD is None else features_NKD.mean(dim=1).float().cpu().numpy()
