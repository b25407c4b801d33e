"""Sections of the fresh parts of a model: vision tower, connector, decoder, and the temporary parts of stage vision."""

from __future__ import annotations

from operator import not_
from typing import Literal

from pydantic import Field, model_validator

from mm1.config.base import Config
from mm1.train.config.fields import Depth, Deviation, Heads, Mean, Pixels, Weight, Width
from mm1.train.config.vision_stage import AimConfig, ClipConfig


class VisionConfig(Config):
    """A fresh vision tower: the CLIP ViT of transformers. The mixture sets its image size."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Attention heads; must divide the width."""
    ffn_size: Width
    """Width of the feed-forward layer."""
    patch_size_px: Pixels
    """Side of a square patch in pixels; must divide the image size."""
    image_mean: tuple[Mean, Mean, Mean] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted from each channel of pixels in 0..1; CLIP's values by default."""
    image_std: tuple[Deviation, Deviation, Deviation] = (0.26862954, 0.26130258, 0.27577711)
    """Divides each channel after the subtraction; CLIP's values by default."""

    @model_validator(mode="after")
    def _check(self) -> VisionConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide hidden_size={self.hidden_size}")
        return self


class ConnectorConfig(Config):
    """The vision-language connector (MM1 3.2). The mixture sets the number of image tokens."""

    type: Literal["average_pool", "attention_pool", "c_abstractor"] = "c_abstractor"
    """Name of the connector; the default is MM1's choice."""
    hidden_size: Width = 1024
    """Width of the C-Abstractor."""
    depth: Depth = 3
    """RegNet blocks before the pooling of the C-Abstractor, and the same number after it."""
    mlp_depth: Depth = 2
    """Linear layers at the end of the C-Abstractor."""
    num_heads: Heads = 16
    """Heads of the attention pool."""


class DecoderConfig(Config):
    """A fresh decoder: Qwen3, or Qwen3-MoE with experts. The mixture's tokenizer sets its vocabulary."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Query heads."""
    num_kv_heads: Heads
    """Key-value heads; must divide the query heads."""
    head_size: int = Field(ge=2, le=4096, multiple_of=2)
    """Width of one head."""
    ffn_size: Width
    """Inner width of the dense gated feed-forward layer."""
    vocab_size: int = Field(default=0, ge=0, le=2**24)
    """Rows of the token embedding; 0 = the size of the tokenizer. More rows are padding, fewer are refused."""
    tie_embeddings: bool = False
    """Whether the output layer shares the weight of the token embedding."""
    rope_theta: float = Field(default=10_000.0, ge=1, le=1e12)
    """Base of the rotary position frequencies."""
    max_positions: int = Field(default=4096, ge=1, le=2**31 - 1)
    """Maximum sequence length of the decoder in tokens."""
    init: Literal["normal", "unit"] = "normal"
    """Initialisation. normal: standard deviation 0.02 for all weights, for widths of a thousand and more; unit: embeddings with
    standard deviation 1, matrices uniform within 1 / sqrt(inputs), which gives narrow decoders activations of size 1."""
    num_experts: int = Field(default=0, ge=0, le=4096)
    """Experts of a sparse layer; 0 = dense decoder."""
    experts_per_token: int = Field(default=2, ge=1, le=4096)
    """Experts that each token is routed to (MM1 4: top-2)."""
    expert_ffn_size: int = Field(default=0, ge=0, le=2**20)
    """Inner width of one expert; 0 = the width of the dense layer."""
    sparse_every: Depth = 2
    """Every n-th layer is sparse (MM1 4: 2 or 4)."""
    balance_loss_weight: Weight = 0.01
    """Weight of the router's balance loss (MM1 4)."""
    z_loss_weight: Weight = 0.001
    """Weight of the router's z-loss (MM1 4)."""

    @model_validator(mode="after")
    def _check(self) -> DecoderConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}")
        if self.num_experts and self.experts_per_token > self.num_experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} is above num_experts={self.num_experts}")
        if self.num_experts and self.sparse_every > self.num_layers:
            raise ValueError(f"sparse_every={self.sparse_every} leaves no sparse layer among num_layers={self.num_layers}")
        return self


class ModelConfig(Config):
    """Shapes of the fresh parts. None = the part comes from `init` or from a given folder."""

    vision: VisionConfig | None = None
    """Vision tower."""
    connector: ConnectorConfig | None = None
    """Connector; a fresh tower needs a fresh connector."""
    decoder: DecoderConfig | None = None
    """Language model."""
    clip: ClipConfig | None = Field(default=None, exclude_if=not_)
    """Temporary parts of stage vision that learn which caption belongs to which image."""
    aim: AimConfig | None = Field(default=None, exclude_if=not_)
    """Temporary parts of stage vision that predict the pixels of the next patch."""

    @property
    def objectives(self) -> list[str]:
        """Names of the sections that define an objective of stage vision."""
        return [name for name in ("clip", "aim") if getattr(self, name) is not None]
