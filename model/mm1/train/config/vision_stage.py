"""Sections of stage vision, which pre-trains the vision tower: one of two objectives, with its temporary parts."""

from __future__ import annotations

from pydantic import Field, model_validator

from mm1.config.base import Config
from mm1.train.config.fields import Depth, Heads, Width


class ClipConfig(Config):
    """Contrastive pre-training of the vision tower (CLIP, arXiv 2103.00020).

    All parts of this section are temporary: the published model lacks them.
    """

    embedding_size: Width
    """Width of the space in which images and captions are compared."""
    text_hidden_size: Width
    """Width of the text tower."""
    text_layers: Depth
    """Transformer blocks of the text tower."""
    text_heads: Heads
    """Attention heads of the text tower; must divide its width."""
    text_length: int = Field(default=77, ge=2, le=2**16)
    """Tokens of a caption that the text tower reads, its end included; the rest is cut (77 in CLIP)."""
    temperature: float = Field(default=0.07, gt=0, le=1)
    """Divisor of the cosine similarities at the first step; it is learned, and does not fall below 0.01, as in CLIP."""

    @model_validator(mode="after")
    def _check(self) -> ClipConfig:
        if self.text_hidden_size % self.text_heads:
            raise ValueError(f"text_heads={self.text_heads} does not divide text_hidden_size={self.text_hidden_size}")
        return self


class AimConfig(Config):
    """Pre-training of the vision tower by predicting the next patch (AIM, arXiv 2401.08541).

    The head is temporary: the published model lacks it.
    """

    head_layers: Depth = 12
    """MLP blocks of the head, which is as wide as the tower (AIM 4.2 and 5.2: 12 blocks, 2048 wide)."""
