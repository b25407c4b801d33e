"""Interface of the models that the harness evaluates: MM1's, Hugging Face's, and those behind an API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from mm1.generation.prompt import AnyPrompt, Completion, Image, Likelihood, Segment, TokenIds

if TYPE_CHECKING:
    import numpy as np

OnBatch = Callable[[int], None]
"""Called after each batch with its number of requests."""


class EvalModel(Protocol):
    """A model that continues and scores prompts."""

    @property
    def name(self) -> str:
        """Name of the model in reports: its digest, folder or address."""

    @property
    def can_score(self) -> bool:
        """Whether `score` works; without it, tasks with choices are refused."""

    def generate(
        self, asks: Sequence[AnyPrompt], *, max_new_tokens: int, stop: Sequence[str] = (), on_batch: OnBatch | None = None
    ) -> list[Completion]:
        """Continue each prompt greedily, up to a stop string, which is not part of the answer.

        Returns:
            One completion per request, in the same order.
        """

    def score(
        self, asks: Sequence[AnyPrompt], continuations: Sequence[Sequence[str]], on_batch: OnBatch | None = None
    ) -> list[list[Likelihood]]:
        """Compute the log-likelihood of each continuation of each prompt."""

    def embed_images(self, images: Sequence[Image]) -> np.ndarray | None:
        """Compute features (N, D) float32 of images, for demonstrations similar to the query; None if the model has none."""


def joined(prompt: Sequence[Segment | TokenIds]) -> list[str | Image]:
    """Join texts that follow each other, for models that tokenise a prompt as a whole; a space separates them if needed."""
    pieces: list[str | Image] = []
    for piece in prompt:
        if isinstance(piece, TokenIds):
            raise TypeError("a prompt of token ids has no text for another model")
        if isinstance(piece, str) and pieces and isinstance(previous := pieces[-1], str):
            space = "" if previous[-1:].isspace() or piece[:1].isspace() else " "
            pieces[-1] = previous + space + piece
        else:
            pieces.append(piece)
    return pieces
