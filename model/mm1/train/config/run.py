"""The whole configuration of a training run, and the checks of one section against another."""

from __future__ import annotations

import math
from operator import not_
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mm1.config.base import Config
from mm1.modeling.image_layout import ImageLayout
from mm1.train.config.fields import Pixels
from mm1.train.config.model import ModelConfig
from mm1.train.config.optim import OptimConfig, ScheduleConfig
from mm1.train.config.train import TrainConfig

Stage = Literal["text", "vision", "pretrain", "sft"]


class SequenceConfig(Config):
    """Sequences that a recipe expects; checked against the mixture of a run."""

    length: int = Field(ge=1, le=2**24)
    """Tokens per sequence (MM1 4: 4096; 5: 2048 in SFT)."""
    max_images: int = Field(ge=1, le=2**16)
    """Maximum number of images per sequence (MM1 4: 16)."""
    image_size_px: Pixels
    """Side of an image in pixels (MM1 4: 378)."""
    image_tokens: int = Field(ge=1, le=2**14)
    """Tokens per image, a square number (MM1 4: 144)."""
    image_layout: str = Field(default="", exclude_if=not_)
    """Division of images into tiles, which count as images: empty, static (MM1 5) or dynamic,grid=4-9,... (MM1.5)."""

    @field_validator("image_layout")
    @classmethod
    def _check_image_layout(cls, text: str) -> str:
        layout = ImageLayout.parse(text)
        return "" if layout.is_single else str(layout)

    @field_validator("image_tokens")
    @classmethod
    def _check_image_tokens(cls, number: int) -> int:
        if math.isqrt(number) ** 2 != number:
            raise ValueError(f"expected a square number such as 64 or 144, got {number}")
        return number


class LogConfig(Config):
    """Logging of a run in progress."""

    progress_every_s: float = Field(default=0.5, gt=0, le=86_400)
    """Seconds between two progress lines of rank 0."""
    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases. offline: write files for `wandb sync`; online: send rows at once, which needs a wandb login."""


class RunConfig(Config):
    """A whole training run; recipes return it, and checkpoints store it."""

    recipe: str
    """Name of the recipe."""
    stage: Stage
    """text: language model alone; vision: vision tower alone; pretrain: the mixture; sft: instructions."""
    model: ModelConfig
    """Shapes of fresh parts."""
    optim: OptimConfig
    """Optimizer."""
    schedule: ScheduleConfig
    """Learning-rate schedule."""
    train: TrainConfig
    """Steps, batch, precision, checkpoints."""
    sequence: SequenceConfig | None = None
    """Sequences that the mixture must have; None = any."""
    log: LogConfig = LogConfig()
    """Progress and Weights & Biases."""

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        self.schedule.check(self.train.steps)
        if self.train.lora.rank and self.stage in ("text", "vision"):
            raise ValueError("train.lora.rank needs stage=pretrain or sft: a text base and a tower are trained whole")
        self._check_vision()
        if self.optim.name == "adafactor" and self.train.expert_parallel > 1:
            # Shared experts have gate and up apart, whose columns have statistics of their own.
            raise ValueError("optim.name=adafactor needs train.expert_parallel=1: set that, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage == 3:
            raise ValueError("optim.name=muon needs whole matrices: set train.zero_stage=0, 1 or 2, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.train.dtype == "bfloat16":
            # Observed with DeepSpeed 0.19.8 at stage 2: norms and biases are not updated at all.
            raise ValueError("optim.name=muon with train.dtype=bfloat16 needs train.zero_stage=0")
        if self.optim.name == "muon" and self.train.expert_parallel > 1:
            raise ValueError("optim.name=muon with train.expert_parallel above 1 is not supported: set optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.optim.clip > 0:
            # At these stages DeepSpeed orthogonalises before it clips, so clipping scales the finished updates.
            raise ValueError("optim.name=muon with train.zero_stage=1 or 2 needs optim.clip=0: set that, or train.zero_stage=0")
        return self

    def _check_vision(self) -> None:
        objectives = self.model.objectives
        if self.stage != "vision":
            if objectives:
                raise ValueError(f"model.{objectives[0]} has no effect in stage {self.stage}, only in stage vision")
            return
        if len(objectives) != 1:
            raise ValueError(f"stage vision needs one of model.clip and model.aim, got {' and '.join(objectives) or 'none'}")
        if self.optim.lr == "law":
            raise ValueError("optim.lr=law is fitted for language models: set a number in stage vision")
        if self.train.zero_stage == 3 or self.train.expert_parallel > 1:
            raise ValueError("stage vision needs train.zero_stage=0, 1 or 2 and train.expert_parallel=1")
