"""Sections of the optimizer and of its learning rate over a run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mm1.config.base import Config
from mm1.train.config.fields import DecayRate, Weight

MAX_LR = 1e30
"""Fits float32 even times any factor; such rates serve to test how a run that diverges behaves."""


class OptimConfig(Config):
    """Optimizer."""

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    """adamw: for all tensors; adafactor: the optimizer of the paper's SFT (MM1 5), a row and a column of state for each matrix;
    muon: for the matrices of the blocks, with adamw for the rest (ZeRO stages 0 to 2)."""
    lr: float | Literal["law"] = "law"
    """Peak learning rate; law = exp(-0.4214 ln N - 0.5535) for N non-embedding parameters of the decoder (MM1 4)."""
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
    """Each step shrinks weights by this times the learning rate (MM1 4: 0.1 lr), except norms and biases."""
    momentum: DecayRate = 0.95
    """Muon's momentum."""
    parameter_scale: bool = False
    """Adafactor's meaning of the learning rate. false: absolute, updates of at most that size, as AdamW's; true: relative to
    the root mean square of each tensor's weights, at least 0.001 (AXLearn's multiply_by_parameter_scale, without a default)."""
    first_moment: DecayRate = 0.0
    """Adafactor's decay rate of the mean of updates; 0 = no mean, and no memory for it."""
    clip: float = Field(default=1.0, ge=0, le=1e9)
    """Maximum norm of the whole gradient; 0 = no clipping."""
    spike_window: int = Field(default=128, ge=0, le=2**20)
    """Steps that the band of loss and gradient norm is computed from. A step above the band does not update the weights. Steps
    are checked once there are that many; 0 = no check."""
    spike_sigmas: float = Field(default=6.0, gt=0, le=1e6)
    """Upper end of the band: mean plus this many standard deviations of the last spike_window steps."""
    spike_limit: int = Field(default=8, ge=0, le=2**20)
    """Maximum number of steps above the band within spike_window steps; more end the run as diverged."""

    @field_validator("lr", mode="before")
    @classmethod
    def _check_lr(cls, lr: Any) -> Any:
        is_number = isinstance(lr, int | float) and not isinstance(lr, bool)
        if lr != "law" and not (is_number and 0 <= lr <= MAX_LR):
            raise PydanticCustomError("lr", f"Expected law or a number from 0 to {MAX_LR:g}")
        return lr


class ScheduleConfig(Config):
    """Learning rate over steps or tokens: linear warm-up, then one of three shapes."""

    shape: Literal["cosine", "wsd", "constant"] = "cosine"
    """cosine: falls from the end of the warm-up to the end of the run (MM1 4). wsd (warm-up, stable, decay; MiniCPM,
    arXiv 2404.06395): stays at the peak and falls at the end. constant: stays at the peak; a later run with shape=wsd can
    continue it and add the decay."""
    unit: Literal["steps", "tokens"] = "steps"
    """Unit of progress. tokens: the run also ends after total_tokens, if that comes before train.steps."""
    warmup_tokens: int = Field(default=0, ge=0)
    """Tokens of the warm-up, padding excluded; for unit=tokens."""
    total_tokens: int = Field(default=0, ge=0)
    """Tokens of the whole run, padding excluded; for unit=tokens."""
    warmup_steps: int = Field(default=2000, ge=0)
    """Steps of the warm-up (MM1 4: 2,000). With shape=cosine at most a tenth of all steps; otherwise exactly this number, so
    that a run that is continued has the same warm-up."""
    decay_share: float = Field(default=0.1, gt=0, le=1)
    """Decay of shape=wsd as a share of all steps or tokens; MiniCPM takes a tenth, arXiv 2405.18392 10 to 20 %."""
    decay_steps: int = Field(default=0, ge=0)
    """Steps of the decay of shape=wsd; 0 = decay_share of train.steps. For unit=steps."""
    decay_tokens: int = Field(default=0, ge=0)
    """Tokens of the decay of shape=wsd, padding excluded; 0 = decay_share of total_tokens. For unit=tokens."""
    decay_curve: Literal["1-sqrt", "linear"] = "1-sqrt"
    """Curve of the decay of shape=wsd. 1-sqrt falls quickly at first, and gives lower losses than linear (arXiv 2405.18392)."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step as a share of the peak, for cosine (MM1 4: 10 %) and wsd."""

    def check(self, steps: int) -> None:
        """Refuse a warm-up and a decay that do not fit into a run of ``steps`` steps.

        Raises:
            ValueError: they are longer than the run, or a field has no effect.
        """
        if self.unit == "tokens" and self.total_tokens <= self.warmup_tokens:
            raise ValueError(
                f"schedule.unit=tokens needs schedule.total_tokens ({self.total_tokens}) above schedule.warmup_tokens "
                f"({self.warmup_tokens})"
            )
        unused = "decay_steps" if self.unit == "tokens" else "decay_tokens"
        if getattr(self, unused):
            raise ValueError(f"schedule.{unused} has no effect with schedule.unit={self.unit}: set schedule.decay_{self.unit}")
        if self.unit == "steps" and (ignored := [name for name in ("warmup_tokens", "total_tokens") if getattr(self, name)]):
            raise ValueError(f"schedule.{ignored[0]} has no effect with schedule.unit=steps: set schedule.unit=tokens")
        if self.shape != "wsd":
            if length := self.decay_steps or self.decay_tokens:
                raise ValueError(f"schedule.decay_{self.unit}={length} needs schedule.shape=wsd")
            return
        name, total = ("total_tokens", self.total_tokens) if self.unit == "tokens" else ("steps", steps)
        warmup, decay = getattr(self, f"warmup_{self.unit}"), self.decay(steps)
        if warmup + decay > total:
            section = "schedule" if self.unit == "tokens" else "train"
            raise ValueError(
                f"schedule.warmup_{self.unit}={warmup} and a decay of {decay} {self.unit} exceed {section}.{name}={total}: "
                f"set a smaller schedule.warmup_{self.unit}, schedule.decay_{self.unit} or schedule.decay_share"
            )

    def decay(self, steps: int) -> int:
        """Return the length of the decay of shape=wsd, in `unit`, for a run of ``steps`` steps."""
        total = self.total_tokens if self.unit == "tokens" else steps
        return int(getattr(self, f"decay_{self.unit}")) or max(1, round(self.decay_share * total))
