"""Configuration of a training run: the sections of :class:`RunConfig`, and the job that a trainer process reads.

A recipe (:mod:`mm1.recipes`) returns a whole ``RunConfig``; overrides change it; what was resolved is kept in the
checkpoint's manifest. Torch-free, so that a step or the command line can read and check it at once::

    recipe -> RunConfig -> overrides -> TrainJob (config + addresses) -> run.json -> python -m mm1.train --config run.json
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mm1.config.base import Config

Stage = Literal["text", "pretrain", "sft"]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=2**20)]
"""Of a tensor."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Layers on top of each other."""
Heads = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=2**14)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""A factor of losses or rates."""
DecayRate = Annotated[float, Field(ge=0, lt=1)]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-3, le=1)]
"""Both of pixels in 0..1."""
MAX_LR = 1e30
"""float32 holds it, times any factor; such a rate is good for trying what a run that diverges does."""


class VisionConfig(Config):
    """A fresh vision tower: the CLIP ViT of transformers. Its image size is that of the mixture."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Attention heads; divides the width."""
    ffn_size: Width
    """Width of the feed-forward layer."""
    patch_size_px: Pixels
    """Side of a square patch in pixels; divides the image size."""
    image_mean: tuple[Mean, Mean, Mean] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted from each channel of pixels in 0..1; CLIP's values by default."""
    image_std: tuple[Deviation, Deviation, Deviation] = (0.26862954, 0.26130258, 0.27577711)
    """Divides each channel after that; CLIP's values by default."""

    @model_validator(mode="after")
    def _check(self) -> VisionConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide hidden_size={self.hidden_size}")
        return self


class ConnectorConfig(Config):
    """The vision-language connector (MM1 3.2); the number of image tokens is that of the mixture."""

    type: Literal["average_pool", "attention_pool", "c_abstractor"] = "c_abstractor"
    """One of MM1's three connectors."""
    hidden_size: Width = 1024
    """Width of the C-Abstractor."""
    depth: Depth = 3
    """RegNet blocks before, and again after, the pooling of the C-Abstractor."""
    mlp_depth: Depth = 2
    """Linear layers at the end of the C-Abstractor."""
    num_heads: Heads = 16
    """Heads of the attention pool."""


class DecoderConfig(Config):
    """A fresh decoder: Qwen3, or Qwen3-MoE where there are experts. Its vocabulary is that of the mixture's tokenizer."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Query heads."""
    num_kv_heads: Heads
    """Key-value heads; divides the query heads."""
    head_size: int = Field(ge=2, le=4096, multiple_of=2)
    """Width of one head."""
    ffn_size: Width
    """Inner width of the dense gated feed-forward layer."""
    vocab_size: int = Field(default=0, ge=0, le=2**24)
    """Rows of the token embedding; 0 = the tokenizer's tokens. More of them make the size round, fewer are refused."""
    tie_embeddings: bool = False
    """Whether the output layer shares the weight of the token embedding."""
    rope_theta: float = Field(default=10_000.0, ge=1, le=1e12)
    """Base of the rotary position frequencies."""
    max_positions: int = Field(default=4096, ge=1, le=2**31 - 1)
    """Positions that the decoder is made for, tokens."""
    init: Literal["normal", "unit"] = "normal"
    """Fresh weights. normal: all with a deviation of 0.02, for widths from a thousand up; unit: embeddings with a deviation of
    1, matrices uniform within 1 / sqrt(inputs), so that narrow decoders carry signals of size 1 from the first step."""
    num_experts: int = Field(default=0, ge=0, le=4096)
    """Experts of a sparse layer; 0 = dense decoder."""
    experts_per_token: int = Field(default=2, ge=1, le=4096)
    """Experts that each token is sent to (MM1 3.4: top-2)."""
    expert_ffn_size: int = Field(default=0, ge=0, le=2**20)
    """Inner width of one expert; 0 = that of the dense layer."""
    sparse_every: Depth = 2
    """Every n-th layer is sparse (MM1 3.4: 2 or 4)."""
    balance_loss_weight: Weight = 0.01
    """Weight of the router's balance loss (MM1 3.4)."""
    z_loss_weight: Weight = 0.001
    """Weight of the router's z-loss (MM1 3.4)."""

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
    """Shapes of the parts that start fresh. None = the part comes from `init`, or from a given folder."""

    vision: VisionConfig | None = None
    """Vision tower."""
    connector: ConnectorConfig | None = None
    """Connector; a fresh tower needs a fresh connector."""
    decoder: DecoderConfig | None = None
    """Language model."""


class OptimConfig(Config):
    """Optimiser."""

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    """adamw for all tensors; adafactor, which the paper tunes with (MM1 4); muon for the matrices of the blocks and adamw for
    the rest (ZeRO stages 0 to 2)."""
    lr: float | Literal["law"] = "law"
    """Peak learning rate; law = exp(-0.4214 ln N - 0.5535) with N non-embedding parameters of the decoder (MM1 3.3)."""
    vision_lr_factor: Weight = 1.0
    """Learning-rate multiplier of the vision tower."""
    connector_lr_factor: Weight = 1.0
    """Learning-rate multiplier of the connector."""
    decoder_lr_factor: Weight = 1.0
    """Learning-rate multiplier of decoder, embeddings and output layer."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
    """AdamW's decay rates."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.1, ge=0, le=1000)
    """Weights shrink by this times the learning rate (MM1 3.3: 0.1 lr); norms and biases do not."""
    momentum: DecayRate = 0.95
    """Muon's momentum."""
    clip: float = Field(default=1.0, ge=0, le=1e9)
    """Largest norm of the whole gradient; 0 = no clipping."""

    @field_validator("lr", mode="before")
    @classmethod
    def _check_lr(cls, lr: Any) -> Any:
        is_number = isinstance(lr, int | float) and not isinstance(lr, bool)
        if lr != "law" and not (is_number and 0 <= lr <= MAX_LR):
            raise PydanticCustomError("lr", f"Expected law, or a number from 0 to {MAX_LR:g}")
        return lr


class ScheduleConfig(Config):
    """Learning rate over steps or tokens: linear warm-up, then cosine decay (MM1 3.3: 2,000 steps, to 10 %)."""

    unit: Literal["steps", "tokens"] = "steps"
    """What progress is counted in. tokens: a run also ends when it has seen total_tokens, if that is before train.steps."""
    warmup_tokens: int = Field(default=0, ge=0)
    """Tokens (padding left out) of the warm-up, with unit=tokens."""
    total_tokens: int = Field(default=0, ge=0)
    """Tokens (padding left out) of the whole run, with unit=tokens."""
    warmup_steps: int = Field(default=2000, ge=0)
    """Steps of the warm-up; cut to a tenth of all steps in a run shorter than ten times that."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the peak that is left at the last step."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.unit == "tokens" and self.total_tokens <= self.warmup_tokens:
            raise ValueError(f"unit=tokens needs total_tokens ({self.total_tokens}) above warmup_tokens ({self.warmup_tokens})")
        return self


class TrainConfig(Config):
    """What is done in a step, and how it is laid out over processes."""

    steps: Count
    """Optimiser steps."""
    global_batch: int = Field(ge=1, le=2**20)
    """Sequences of one step over all processes; the same whatever their number."""
    micro_batch: Count
    """Sequences that one process takes at a time at most; accumulation follows from it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the arithmetic; master weights are float32 always. With bfloat16 they are the weights themselves at zero_stage=0
    (autocast), and spread over processes above."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """ZeRO stage: what is spread over processes (1 optimiser state, 2 gradients too, 3 weights too)."""
    offload: Literal["none", "optimizer"] = "none"
    """optimizer: its state lives, and its step is done, in the memory of the host; needs zero_stage 1, 2 or 3."""
    expert_parallel: int = Field(default=1, ge=1, le=4096)
    """Processes that share the experts of a sparse layer, each keeping its part of them; divides processes and experts."""
    checkpoint_every: Count
    """Steps between two checkpoints to resume from."""
    keep_checkpoints: Count = 2
    """Checkpoints to resume from that are kept; with more than one a damaged one costs only the steps after the one before."""
    frozen: tuple[str, ...] = ()
    """Regular expressions; a parameter whose name matches one anywhere is not trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    loader_workers: int = Field(default=0, ge=0, le=1024)
    """Processes per rank that read and decode; 0 = a thread of the rank, which is enough for small images."""
    seed: int = Field(default=0, ge=0)
    """Seed of fresh weights."""
    profile: str = Field(default="", pattern=r"^(\d{1,18}(-\d{1,18})?)?$", coerce_numbers_to_str=True)
    """Steps of which rank 0 leaves a trace, for example 10-13 (both counted); empty = none."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload=optimizer needs zero_stage=1, 2 or 3, where the optimiser's state is spread")
        if self.expert_parallel > 1 and self.zero_stage == 0:
            raise ValueError("expert_parallel above 1 needs zero_stage=1, 2 or 3")
        return self

    @field_validator("frozen")
    @classmethod
    def _check_frozen(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @property
    def profiled(self) -> tuple[int, int]:
        """First and last step of the trace; zeros for none."""
        first, _, last = self.profile.partition("-")
        return int(first or 0), int(last or first or 0)

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, text: str) -> str:
        first, _, last = text.partition("-")
        if text and not 1 <= int(first) <= int(last or first):
            raise ValueError("steps count from 1 and the earlier comes first, for example 10-13")
        return text


class SequenceConfig(Config):
    """What the mixture of a recipe must be made of; checked against the one that a run is given."""

    length: int = Field(ge=1, le=2**24)
    """Tokens of a sequence (MM1 3.3: 4096; 2048 in SFT)."""
    max_images: int = Field(ge=1, le=2**16)
    """Images of a sequence at most (MM1 3.3: 16)."""
    image_size_px: Pixels
    """Side of an image in pixels (MM1 3.3: 378)."""
    image_tokens: int = Field(ge=1, le=2**14)
    """Tokens of an image, a square number (MM1 3.2: 144)."""

    @field_validator("image_tokens")
    @classmethod
    def _check_image_tokens(cls, number: int) -> int:
        if math.isqrt(number) ** 2 != number:
            raise ValueError(f"expected a square number such as 64 or 144, got {number}")
        return number


class LogConfig(Config):
    """What a run shows while it runs."""

    progress_every_s: float = Field(default=0.5, gt=0, le=86_400)
    """Seconds between two progress lines of rank 0."""
    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases: offline leaves files that `wandb sync` sends; online sends at once and needs wandb's own login."""


class RunConfig(Config):
    """A whole training run; recipes return one, and it is stored with what came of it."""

    recipe: str
    """Name of the recipe that it comes from."""
    stage: Stage
    """text: language model alone; pretrain: the mixture; sft: instructions."""
    model: ModelConfig
    """Shapes of fresh parts."""
    optim: OptimConfig
    """Optimiser."""
    schedule: ScheduleConfig
    """Learning-rate schedule."""
    train: TrainConfig
    """Steps, batch, precision, checkpoints."""
    sequence: SequenceConfig | None = None
    """What the mixture must be made of; None = whatever the given one is."""
    log: LogConfig = LogConfig()
    """Progress and Weights & Biases."""

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.optim.name == "adafactor" and self.train.zero_stage > 0:
            raise ValueError("optim.name=adafactor needs whole matrices: take train.zero_stage=0, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage == 3:
            raise ValueError("optim.name=muon needs whole matrices: take train.zero_stage=0, 1 or 2, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.train.dtype == "bfloat16":
            # Seen with DeepSpeed 0.19.8 at stage 2: norms and biases are not updated at all.
            raise ValueError("optim.name=muon with train.dtype=bfloat16 needs train.zero_stage=0")
        if self.optim.name == "muon" and self.train.expert_parallel > 1:
            raise ValueError("optim.name=muon with train.expert_parallel above 1 is not known to work: take optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.optim.clip > 0:
            # DeepSpeed orthogonalises before it clips there, and the clip then scales the finished updates.
            raise ValueError("optim.name=muon with train.zero_stage=1 or 2 needs optim.clip=0; at zero_stage=0 it can clip")
        return self


class TrainJob(Config):
    """What a trainer process is started with: the resolved configuration and where things are (not stored)."""

    config: RunConfig
    """The resolved run."""
    data: str
    """Address of the DataMix manifest."""
    init: str = ""
    """Address of the Checkpoint manifest to start from."""
    vision: str = ""
    """Local folder of a vision tower in transformers' layout."""
    decoder: str = ""
    """Local folder of a causal decoder in transformers' layout."""
    store: str
    """Address of the store that checkpoints go to."""
    key: str
    """Name of this work: finds its own unfinished checkpoints again."""
    code: str = ""
    """Digest of the code; a run that goes on under another is told."""
    folder: str
    """Local folder for result.json, error files and scratch."""
    threads: int = Field(default=0, ge=0)
    """Threads of one process; 0 leaves torch's choice."""

    def with_micro_batch(self, micro_batch: int) -> TrainJob:
        """The same job with another micro-batch; its global batch stays as it is."""
        train = self.config.train.model_copy(update={"micro_batch": micro_batch})
        return self.model_copy(update={"config": self.config.model_copy(update={"train": train})})


class TrainResult(Config):
    """What a trainer process leaves behind in result.json."""

    manifest: str
    """Address of the finished Checkpoint."""
    steps: int
    """Optimiser steps of the whole run."""
    resumed_from: int
    """Step that this process started after; 0 = from the beginning."""
    seconds: float
    """Wall time of this process in the training loop."""
    tokens: int
    """Tokens (padding left out) of the steps that this process did."""
    tokens_per_s: float
    """Tokens over seconds."""
    padding_share: float
    """Share of padding in the positions of those steps."""
    losses: dict[str, float]
    """Mean loss of the last steps: `all`, and each source by name."""
    facts: dict[str, float | int | str]
    """Threads, processes, parameters, seconds of start, slowest step and the like."""
