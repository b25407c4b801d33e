"""Settings of generation: how work is cut into batches, and how the next token is chosen. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from mm1.config.base import Config


class BatchSettings(Config):
    """How prompts are cut into batches."""

    batch_size: int = Field(default=64, ge=1)
    """Prompts in one batch at most."""
    batch_tokens: int = Field(default=32_768, ge=1)
    """Tokens of one batch at most, padding counted (a single longer prompt is a batch of its own)."""
    image_batch: int = Field(default=128, ge=1)
    """Images encoded at once."""
    image_cache_bytes: int = Field(default=256 << 20, ge=0)
    """Bytes of image features that are kept for images seen again (demonstrations, controls)."""


class Sampling(Config):
    """How the next token is chosen. The default is greedy, as all evaluation is (MM1 5.1)."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 = greedy; else logits are divided by it before a token is drawn."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with at least this probability together."""
    seed: int | None = None
    """Seed of the draw; None = a new one each time."""
