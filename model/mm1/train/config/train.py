"""Section of the steps of a run, and of what they train."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mm1.config.base import Config
from mm1.train.config.fields import NAMES, Count
from mm1.train.config.lora import LoraConfig

COLLECTIVE_TIMEOUT_S = 300.0
LAYOUT_FIELDS = (
    "micro_batch",
    "zero_stage",
    "expert_parallel",
    "offload",
    "gradient_checkpointing",
    "loader_workers",
    "collective_timeout_s",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_state",
    "validate_every",
    "validation_sequences",
    "profile",
)
"""Fields of the section ``train`` that affect the layout or the observation of a run, but not its result."""
PARTS = {
    "vision": r"(^|\.)vision_tower\.",
    "connector": r"(^|\.)connector\.",
    "decoder": r"(^|\.)language_model\.|^lm_head\.",
}
"""Name of a part of the model -> regular expression that matches the names of its parameters."""


class TrainConfig(Config):
    """The steps of a run, and their layout over processes."""

    steps: Count
    """Optimizer steps."""
    global_batch: int = Field(ge=1, le=2**20)
    """Sequences of one step over all processes, whatever their number."""
    micro_batch: Count
    """Maximum number of sequences in one forward pass of a process; gradient accumulation follows from it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the arithmetic; master weights are always float32. With bfloat16 they are the model's own weights at
    zero_stage=0 (autocast), and partitioned over processes at higher stages."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype in which gradients are summed over processes. bfloat16 sends half the bytes and rounds at every process that a sum
    passes: with 512 of them the sum is off by 2 % of its norm. Accumulation is float32 always."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """ZeRO stage: partitions over processes 1 the optimizer state, 2 also the gradients, 3 also the weights."""
    offload: Literal["none", "optimizer"] = "none"
    """optimizer: keep the optimizer state, and run its step, on the host; needs zero_stage 1, 2 or 3."""
    expert_parallel: int = Field(default=1, ge=1, le=4096)
    """Processes that share the experts of a sparse layer, each with its own part; must divide processes and experts."""
    balance_over: Literal["global_batch", "micro_batch"] = "global_batch"
    """Batch of the router losses. global_batch: the sequences of a step, whatever its layout, so that experts can specialise
    by source (arXiv 2501.11873); with accumulation it costs one more forward pass. micro_batch: one forward pass of one
    process, as in GShard; depends on train.micro_batch and the number of processes."""
    checkpoint_every: Count
    """Steps between two checkpoints to resume from."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between two validations, which compute the loss of each source on its held-out samples; 0 = none. The mixture must
    hold out samples (`holdout` of data_mix)."""
    validation_sequences: Count = 64
    """Maximum number of held-out sequences per source; the ranks keep them in memory, each its share."""
    keep_checkpoints: Count = 2
    """Number of checkpoints to keep for resuming; with more than one, a damaged checkpoint costs only the steps since the
    previous one."""
    keep_state: bool = False
    """Publish the finished checkpoint with its trainer state, so that a later run can continue it with more steps (input
    `resume`). AdamW's takes 8 bytes per trained parameter, and 4 more with float32 master weights next to bfloat16 ones."""
    restart_data: bool = False
    """With the input `resume`: start at the beginning of the mixture, which may be another one. Otherwise the data goes on at
    the position of the checkpoint, and the mixture must be the same."""
    lora: LoraConfig = Field(default=LoraConfig(), exclude_if=lambda lora: not lora.rank)
    """Adapters that are trained in place of the weights."""
    frozen: Annotated[tuple[str, ...], NAMES] = ()
    """Parts that are not trained: vision, connector, decoder; or regular expressions, for parameters in whose names one of them
    matches."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    loader_workers: int = Field(default=0, ge=0, le=1024)
    """Processes per rank that read and decode; 0 = a thread of the rank, which is enough for small images."""
    collective_timeout_s: float = Field(default=COLLECTIVE_TIMEOUT_S, ge=1, le=86_400)
    """Seconds after which a collective has failed: ranks wait no longer for one that does not arrive. Waiting for storage does
    not count."""
    seed: int = Field(default=0, ge=0)
    """Random seed of fresh weights and of dropout."""
    profile: str = Field(default="", pattern=r"^(\d{1,18}(-\d{1,18})?)?$", coerce_numbers_to_str=True)
    """Steps that rank 0 profiles, for example 10-13 (both included); empty = none."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload=optimizer needs zero_stage=1, 2 or 3, which partition the optimizer state")
        if self.expert_parallel > 1 and self.lora.rank:
            raise ValueError("lora.rank needs expert_parallel=1")
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
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
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
            raise ValueError(f"expected a step from 1, or two in ascending order such as 10-13, got {text}")
        return text


def frozen_pattern(name: str) -> re.Pattern[str]:
    """Return the regular expression of a part, or of a pattern, in ``train.frozen``."""
    return re.compile(PARTS.get(name, name))
