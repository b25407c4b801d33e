"""Section of adapters (LoRA)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mm1.config.base import Config
from mm1.train.config.fields import NAMES, DecayRate, Part


class LoraConfig(Config):
    """Adapters (LoRA, arXiv 2106.09685) on a model from `init`, whose own weights stay as they are."""

    rank: int = Field(default=0, ge=0, le=4096)
    """Rank of the two matrices of an adapter; 0 = none, all weights are trained."""
    alpha: int = Field(default=0, ge=0, le=2**20)
    """An adapter adds B A alpha / rank to its weight; 0 = twice the rank."""
    dropout: DecayRate = 0.0
    """Dropout of an adapter's input."""
    targets: Annotated[tuple[str, ...], NAMES] = ("all-linear",)
    """Linear layers with an adapter, by the end of their names, for example q_proj; all-linear = all of the parts."""
    parts: Annotated[tuple[Part, ...], NAMES] = Field(default=("decoder",), min_length=1)
    """Parts of the model with adapters."""
    trained: Annotated[tuple[Literal["vision", "connector"], ...], NAMES] = ()
    """Parts that are trained whole next to the adapters; all other weights are frozen."""

    @model_validator(mode="after")
    def _check(self) -> LoraConfig:
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if changed and not self.rank:
            raise ValueError(f"lora.{changed[0]} has no effect without lora.rank: set lora.rank=8")
        if both := set(self.parts) & set(self.trained):
            raise ValueError(f"lora.parts and lora.trained both name {sorted(both)[0]}: leave it out of one")
        return self
