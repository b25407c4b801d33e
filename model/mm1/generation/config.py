"""Settings of generation: batching and sampling. Torch-free."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import Field, field_validator

from mm1.config.base import INT64_MAX, Config


class BatchSettings(Config):
    """Batching of prompts."""

    batch_size: int = Field(default=64, ge=1)
    """Maximum number of prompts per batch."""
    batch_tokens: int = Field(default=32_768, ge=1)
    """Maximum number of tokens per batch, padding included (a longer prompt is a separate batch)."""
    image_batch: int = Field(default=128, ge=1)
    """Number of images encoded at once."""
    image_cache_bytes: int = Field(default=256 << 20, ge=0)
    """Size of the cache of image features, for images that occur again (demonstrations, controls)."""


class EngineSettings(Config):
    """Limits of the engine that answers many askers at once."""

    max_running: int = Field(default=32, ge=1)
    """Maximum number of answers generated at once."""
    max_waiting: int = Field(default=256, ge=0)
    """Maximum number of asks that wait while all places in the batch are taken; further ones are refused."""
    batch_tokens: int = Field(default=65_536, ge=1)
    """Maximum number of tokens of all running answers with their prompts, padding included (a longer one runs alone)."""
    prefill_tokens: int = Field(default=512, ge=1)
    """Number of prompt tokens processed between two tokens of the running answers."""
    prefix_cache_bytes: int = Field(default=256 << 20, ge=0)
    """Size of the cache of processed prompts, for prompts that begin with the same tokens and images."""


class Sampling(Config):
    """Sampling of the next token. The default is greedy, as in all evaluations (MM1, appendix C)."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 = greedy; otherwise logits are divided by it before sampling."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the smallest set of tokens with at least this total probability."""
    seed: int | None = None
    """Random seed of any size; None = a new one each time."""

    @field_validator("seed", mode="before")
    @classmethod
    def _fold(cls, seed: Any) -> Any:
        """Fold larger integers, such as clients' unsigned 64-bit seeds, to the range that configurations have."""
        return seed if not isinstance(seed, int) or abs(seed) <= INT64_MAX else seed % INT64_MAX

    def of_answer(self, index: int) -> Sampling:
        """Return the sampling of one of several answers to a prompt; that of answer 0 is this one."""
        if self.seed is None or index == 0:
            return self
        digest = hashlib.blake2b(f"{self.seed} {index}".encode(), digest_size=8).digest()
        return self.model_copy(update={"seed": int.from_bytes(digest) >> 1})
